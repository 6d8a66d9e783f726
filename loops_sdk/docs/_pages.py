"""The pages: which public name stands on which, what a reference leads to, and how a docstring becomes Markdown.

A reference that leads nowhere is an error, and so is a parameter or field that nothing documents.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING or __package__:
    from loops_sdk.docs._environment import ENVIRONMENT, GUESTS, variables
    from loops_sdk.docs._items import MADE, Item
    from loops_sdk.docs._reading import DOORS, Doc, Module, Named, Sources, spans
    from loops_sdk.docs._texts import ABOUT, TITLE, texts
else:  # part of a script, which imports neither package
    from _environment import ENVIRONMENT, GUESTS, variables
    from _items import MADE, Item
    from _reading import DOORS, Doc, Module, Named, Sources, spans
    from _texts import ABOUT, TITLE, texts

COMMAND = "python loops_sdk/docs/_generate.py"


class Page(NamedTuple):
    """A page, and the files or folders whose public names it shows; the most specific one wins."""

    title: str
    about: str
    shows: tuple[str, ...]


PAGES = {
    "service": Page(
        "The service", "Sessions, and the ways to a training or sampling client.", ("loops_sdk/_clients/service.py",)
    ),
    "training": Page("Training", "Passes, optimizer steps, checkpoints and publishing.", ("loops_sdk/_clients",)),
    "sampling": Page("Sampling", "Continuations and log-probabilities.", ("loops_sdk/_clients/sampling.py",)),
    "futures": Page("Futures", "Results of trainer operations, to be awaited.", ("loops_sdk/_net/futures.py",)),
    "types": Page(
        "Values",
        "What goes into the calls and what comes back: frozen, compared by value, to and from plain dicts.",
        ("loops_sdk/types", "loops_sdk/_wire/codec.py"),
    ),
    "rendering": Page(
        "Conversations and episodes",
        "From chat messages and rollouts to what is trained on: tokens, targets and advantages in their places.",
        ("loops_sdk/rendering",),
    ),
    "errors": Page("Errors", "What can go wrong, as one tree.", ("loops_sdk/errors.py",)),
    "instrumentation": Page(
        "Instrumentation", "What happened, as events, and who hears of it.", ("loops_sdk/instrumentation",)
    ),
    "local": Page("The embedded deployment", "The service on your own machine.", ("loops_sdk/local",)),
    "sync": Page("The blocking clients", "The same clients for code that does not await.", ("loops_sdk_sync",)),
}
#: Names of the core that belong on another page than that of their file.
PLACED = {"ForwardBackwardFuture": "futures"}
#: Facades: shown as tables, for what they do is told where the core's clients are.
FACADES = "loops_sdk_sync/_generated/"
_ENVIRONMENT = ("Environment variables", "What is read from the environment; an argument always wins.")


class Book:
    """All public names, each with its place, and the pages that show them."""

    def __init__(self, root: Path) -> None:
        self.sources = Sources(root)
        self.used: set[str] = set()
        self.items: dict[str, dict[str, Item]] = {}
        for door in DOORS:
            module = self.sources.door(door)
            self.items[door] = {name: self._item(module, door, name) for name in module.public}
            self.used |= MADE & self.items[door].keys()

    def _item(self, front: Module, door: str, name: str) -> Item:
        found = front.find(name)
        if found is None:
            raise front.unknown(front.defined["__all__"], f"{name}: public, but not defined in our sources")
        module, node = found
        known = (item for items in self.items.values() for item in items.values() if item.node is node)
        return next(known, None) or Item(module, node, name, door, self._page(module, node, name))

    def _page(self, module: Module, node: Named, name: str) -> str:
        if name in PLACED and module.place.startswith("loops_sdk/"):
            self.used.add(name)
            return PLACED[name]
        shown = [(folder, page) for page, told in PAGES.items() for folder in told.shows]
        fitting = [(len(folder), page) for folder, page in shown if f"{module.place}/".startswith(f"{folder}/")]
        if not fitting:
            raise module.unknown(node, f"{name}: no page shows the public names of {module.place}")
        self.used.add(page := max(fitting)[1])
        return page

    def every(self) -> list[Item]:
        """Each public thing once, by name."""
        found = {id(item): item for items in self.items.values() for item in items.values()}
        return sorted(found.values(), key=lambda item: (item.name.lower(), item.door))

    # ------------------------------------------------------------ references

    def look_up(self, reference: str, near: Item | None) -> Item | None:
        """What a reference names, seen from the docstring of `near`."""
        name, doors = reference.removesuffix("()"), [*([near.door] if near else []), *DOORS]
        for door in sorted(DOORS, key=len, reverse=True):
            if name.startswith(f"{door}."):
                name, doors = name.removeprefix(f"{door}."), [door]
                break
        first, _, member = name.partition(".")
        for door in doors:
            if first in self.items[door]:
                item = self.items[door][first]
                return self._part(item, member) if member else item
        return None if member else self._method(first, near)

    def _member(self, item: Item, name: str) -> Item | None:
        """A member, also by its blocking name; where a facade is meant, that of the core."""
        if _is_facade(item):
            item = self.items["loops_sdk"][item.name]
        return item.members.get(name) or item.members.get(f"{name}_async")

    def _part(self, item: Item, name: str) -> Item | None:
        """A member, or the class itself where a field is meant, which has no heading of its own."""
        return self._member(item, name) or (item if name in item.doc.told else None)

    def _method(self, name: str, near: Item | None) -> Item | None:
        """A method by its bare name: of the same class, else the only one of that name."""
        owner = near and (near.owner or near)
        if owner is not None and (found := self._member(owner, name)) is not None:
            return found
        every = [self._member(item, name) for item in self.items["loops_sdk"].values()]
        methods = [one for one in every if one is not None and "property" not in one.decorators]
        return methods[0] if len(methods) == 1 else None

    def address(self, reference: str, near: Item | None) -> str | None:
        if reference in DOORS:
            return f"{DOORS[reference]}.md"
        around = [item for item in (near, near and near.owner) if item]
        own = {name for item in around for name in (*item.doc.told, *(one.name for one in item.parameters or []))}
        found = None if reference in own else self.look_up(reference, near)
        return found.address if found else None

    # ------------------------------------------------------------ text

    def prose(self, text: str, near: Item | None) -> str:
        """A paragraph as Markdown: references become links, what Markdown would take for its own is escaped."""
        return "".join(
            self.reference(single, near) if single else other.replace("``", "`") if "``" in other else _escaped(other)
            for single, other in spans(" ".join(text.split()))
        )

    def reference(self, text: str, near: Item | None) -> str:
        address = self.address(text, near)
        if address is None and near is not None and _is_public_name(text):
            raise near.module.unknown(near.node, f"{near.title}: `{text}` names nothing public")
        return f"`{text}`" if address is None else f"[`{text}`]({address})"

    def block(self, text: str, near: Item | None) -> str:
        """One block of a docstring: code where it is indented, a list where its lines have bullets, else prose."""
        if text.startswith(" "):
            return _fenced(textwrap.dedent(text))
        if text.startswith(("* ", "- ")):
            return "\n".join(f"- {self.prose(one[2:], near)}" for one in re.split(r"\n(?=[*-] )", text))
        return self.prose(text, near)

    def body(self, item: Item) -> Iterator[str]:
        """Everything under a heading, block by block."""
        yield _fenced(item.signature())
        if item.bases:
            yield f"Bases: {', '.join(self.reference(name, item) for name in item.bases)}."
        yield from (self.block(text, item) for text in item.doc.blocks)
        arguments, attributes = self.entries("Args", item), self.entries("Attributes", item)
        elsewhere = [f"- {_code(', '.join(names))}: as in {link}." for link, names in self.elsewhere(item).items()]
        (attributes if attributes and not arguments else arguments).extend(elsewhere)
        yield from _section("Arguments", arguments)
        yield from _section("Attributes", attributes)
        yield from _section("Returns", [self.prose(item.doc.returns, item)] if item.doc.returns else [])
        yield from _section("Raises", self.entries("Raises", item))

    def entries(self, section: str, item: Item) -> list[str]:
        """The entries of a section as a list; the names of errors are references, those of parameters are not."""
        lines = []
        for names, told in item.doc.sections.get(section, []):
            errors = [self.reference(name, item) for name in names.split(", ")] if section == "Raises" else []
            lines.append(f"- {', '.join(errors) or _code(names)}: {self.prose(told, item)}")
        return lines

    def elsewhere(self, item: Item) -> dict[str, list[str]]:
        """Parameters that a docstring explains to which this one refers, or that of a base; by the link to it.

        Every other parameter and field must have an entry or be spoken of in the text.
        """
        made: dict[str, list[str]] = {}
        wanted = [*(item.parameters or []), *(field.parameter for field in item.fields)]
        for name, node in {one.name: one.node for one in wanted if one.name and not _tells(item, one.name)}.items():
            source = self._source(item, name, [item])
            if source is None:
                raise item.module.unknown(node, f"{item.title}: {name} is not documented")
            made.setdefault(self.reference(source, item), []).append(name)
        return made

    def _source(self, item: Item, name: str, seen: list[Item]) -> str | None:
        """The reference in a docstring that leads, directly or over others, to where a parameter is explained."""
        every = [(reference, self.look_up(reference, item)) for reference in [*item.bases, *item.doc.references]]
        new = [(reference, found) for reference, found in every if found is not None and found not in seen]
        seen += [found for _, found in new]
        direct = (reference for reference, found in new if _tells(found, name))
        return next(direct, None) or next((one for one, found in new if self._source(found, name, seen)), None)

    # ------------------------------------------------------------ whole pages

    def text(self, page: str) -> str:
        items = [item for item in self.every() if item.page == page]
        blocks = self.opening(page) or [PAGES[page].about]
        if page == "errors":
            blocks.append("\n".join(self.tree(items, {"Exception", "RuntimeWarning"})))
        for item in items:
            blocks += [f"## {item.heading}", *(self.facade(item) if _is_facade(item) else self.body(item))]
            for member in {} if _is_facade(item) else item.members.values():
                blocks += [f"### {member.heading}", *self.body(member)]
        return _page(PAGES[page].title, blocks)

    def opening(self, page: str) -> list[str]:
        """What the modules that lead to a page say of themselves."""
        blocks = []
        for door in (door for door, its_page in DOORS.items() if its_page == page):
            module = self.sources.door(door)
            doc = Doc(ast.get_docstring(module.tree) or "", module, module.tree)
            blocks += [f"`{door}`:", *(self.block(text, None) for text in doc.blocks)]
        return blocks

    def tree(self, classes: list[Item], over: set[str], depth: int = 0) -> Iterator[str]:
        """Classes below their first base."""
        for item in classes:
            if {*item.bases[:1]} & over:
                yield f"{'  ' * depth}- {self.reference(item.name, item)}: {self.prose(item.doc.summary, item)}"
                yield from self.tree(classes, {item.name}, depth + 1)

    def facade(self, item: Item) -> Iterator[str]:
        """A blocking client as a table of its forms."""
        core = self.items["loops_sdk"][item.name]
        yield _fenced(item.signature())
        yield from (self.block(text, item) for text in item.doc.blocks)
        yield f"Arguments and errors are those of [`loops_sdk.{item.name}`]({core.address})."
        yield "\n".join(["| blocking | awaitable | told at |", "|---|---|---|", *self.forms(item, core)])

    def forms(self, item: Item, core: Item) -> Iterator[str]:
        """A row for each blocking form and the awaitable one behind it."""
        members = list(item.members.values())
        for member, after in zip(members, [*members[1:], None], strict=True):
            if isinstance(member.node, ast.AsyncFunctionDef):
                continue
            pair = after if after and isinstance(after.node, ast.AsyncFunctionDef) else None
            told = core.members.get((pair or member).name)
            if told is None:
                raise member.module.unknown(member.node, f"{member.title}: the core's client has no such member")
            call = member.name if "property" in member.decorators else f"{member.name}(...)"
            yield f"| `{call}` | {f'`await {pair.name}(...)`' if pair else ''} | [`{told.name}`]({told.address}) |"

    def index(self) -> str:
        pages = {
            **{page: (told.title, told.about) for page, told in PAGES.items()},
            "environment": _ENVIRONMENT,
            "texts": (TITLE, ABOUT),
        }
        contents = "\n".join(f"- [{title}]({page}.md): {about}" for page, (title, about) in pages.items())
        names = "\n".join(
            f"- [`{item.door}.{item.title}`]({item.address}): {self.prose(item.doc.summary, item)}"
            for item in self.every()
        )
        return _page("The interface", [*self.opening("index"), "## Pages", contents, "## Names", names])

    def texts(self) -> str:
        return _page(TITLE, texts(self.sources.root))

    def environment(self) -> str:
        read = dict(variables(self.sources))
        for name in sorted(read.keys() - ENVIRONMENT.keys()):
            module, node = read[name]
            raise module.unknown(node, f"{name}: read here, but not in ENVIRONMENT of loops_sdk/docs/_environment.py")
        self.used |= read.keys()
        title, about = _ENVIRONMENT
        own, guests = (
            "\n".join(f"- {_code(names)}: {self.prose(told, None)}" for names, told in sorted(table.items()))
            for table in (ENVIRONMENT, GUESTS)
        )
        return _page(title, [about, own, "## Read by what this package uses", guests])


def _tells(item: Item, name: str) -> bool:
    """Whether a docstring has an entry for a parameter or speaks of it."""
    return name in item.doc.told or name in item.doc.references


def _is_facade(item: Item) -> bool:
    return item.module.place.startswith(FACADES)


def _is_public_name(text: str) -> bool:
    """Whether readers would look it up: a class that Python does not have, a member of one, a module of ours."""
    is_class = re.fullmatch(r"[A-Z]\w*[a-z]\w*(\.\w+)?", text) and not hasattr(builtins, text.partition(".")[0])
    return bool(is_class or re.fullmatch(r"loops_sdk[\w.]*", text))


def _page(title: str, blocks: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", f"<!-- {COMMAND} makes this page. -->", *blocks]) + "\n"


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"**{title}**\n\n" + "\n".join(lines)


def _fenced(code: str) -> str:
    return f"```python\n{code}\n```"


def _code(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", r"\*")
