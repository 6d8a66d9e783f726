"""Reads the sources as text: where a public name is defined, and what its docstring consists of.

It decides what a docstring may look like. What becomes of it is not its business.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

#: The modules whose `__all__` is public, and the page that a mention of them leads to.
DOORS = {
    "loops_sdk": "index",
    "loops_sdk.instrumentation": "instrumentation",
    "loops_sdk.local": "local",
    "loops_sdk_sync": "sync",
    "loops_sdk_sync.local": "sync",
}
SECTIONS = ("Args", "Attributes", "Returns", "Raises")

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Named: TypeAlias = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign


class Unknown(Exception):
    """Something that no rule covers, or that nothing documents."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")


class Sources:
    """The modules of both packages, each read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules: dict[str, Module] = {}

    def module(self, name: str) -> Module | None:
        """A module by its name; `None` when it is none of ours."""
        if name not in self.modules:
            stem = self.root.joinpath(*name.split("."))
            found = [path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.is_file()]
            if not found:
                return None
            self.modules[name] = Module(self, found[0])
        return self.modules[name]

    def door(self, name: str) -> Module:
        found = self.module(name)
        if found is None:
            raise Unknown(self.root.joinpath(*name.split(".")), 1, "no such module")
        return found

    @cached_property
    def public_nodes(self) -> set[int]:
        """The identities of all nodes that a front door shows."""
        shown = [door.find(name) for door in map(self.door, DOORS) for name in door.public]
        return {id(found[1]) for found in shown if found}


class Module:
    """One file: what it defines, and where it has the rest from."""

    def __init__(self, sources: Sources, path: Path) -> None:
        self.sources, self.path = sources, path
        self.place = path.relative_to(sources.root).as_posix()
        text = path.read_text(encoding="utf-8")
        self.lines = text.splitlines()
        self.tree = ast.parse(text, str(path))

    def unknown(self, node: ast.AST, message: str) -> Unknown:
        return Unknown(self.path, getattr(node, "lineno", 1), message)

    @cached_property
    def defined(self) -> dict[str, Named]:
        return {name: node for node in self.tree.body if isinstance(node, Named) for name in names_of(node)}

    @cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        statements = [node for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom)]
        return {
            alias.asname or alias.name: (node.module or "", alias.name) for node in statements for alias in node.names
        }

    def find(self, name: str) -> tuple[Module, Named] | None:
        """Where a name is defined, through as many imports as it takes; `None` when that is not in our sources."""
        if name in self.defined:
            return self, self.defined[name]
        origin, original = self.imported.get(name, ("", ""))
        module = self.sources.module(origin) if origin else None
        return module.find(original) if module is not None else None

    @cached_property
    def public(self) -> list[str]:
        """The names in `__all__`."""
        node = self.defined.get("__all__")
        if not isinstance(node, ast.Assign):
            raise self.unknown(self.tree, "no __all__")
        return sorted(ast.literal_eval(node.value))

    def source(self, node: ast.expr | ast.stmt) -> str:
        """The text of an expression or statement on one line."""
        lines = [line.encode() for line in self.lines[node.lineno - 1 : node.end_lineno]]
        lines[-1] = lines[-1][: node.end_col_offset]  # the end first: it may be the same line
        lines[0] = lines[0][node.col_offset :]
        return " ".join(b" ".join(lines).decode().split())

    def constant(self, node: ast.expr) -> tuple[Module, ast.expr] | None:
        """What a name stands for, where that is assigned at the top of a module of ours."""
        found = self.find(node.id) if isinstance(node, ast.Name) else None
        if found is None or not isinstance(found[1], ast.Assign | ast.AnnAssign) or found[1].value is None:
            return None
        return found[0], found[1].value

    def default(self, node: ast.expr) -> str:
        """The text of a default; a private constant is shown by what it stands for."""
        if not (isinstance(node, ast.Name) and node.id.startswith("_")):
            return self.source(node)
        found = self.constant(node)
        if found is None:
            raise self.unknown(node, f"{node.id}: a private default that is no constant")
        return found[0].default(found[1])

    def comment(self, node: ast.stmt) -> str:
        """The lines that begin with ``#:`` right above a statement."""
        above = self.lines[: node.lineno - 1]
        count = 0
        while count < len(above) and above[-1 - count].lstrip().startswith("#:"):
            count += 1
        return "\n".join(line.strip().removeprefix("#:").strip() for line in above[len(above) - count :])


def names_of(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.ClassDef | Function):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


class Doc:
    """A docstring taken apart: blocks of prose, and sections."""

    def __init__(self, text: str, module: Module, node: ast.AST) -> None:
        self.module, self.node = module, node
        self.blocks: list[str] = []
        self.sections: dict[str, list[tuple[str, str]]] = {}
        self.returns = ""
        lines = text.splitlines()
        while lines:
            title, size = self._section(lines)
            if title:
                self._add_section(title, textwrap.dedent("\n".join(lines[1:size])).strip())
            elif lines[0].strip():
                self._add_block("\n".join(lines[:size]))
            del lines[:size]

    def _section(self, lines: list[str]) -> tuple[str, int]:
        """The title of the section that begins here, if one does, and the number of lines up to what follows."""
        head = re.fullmatch(r"(\w+)(?: \(.*\))?:", lines[0])
        if head is None or len(lines) < 2 or not lines[1].startswith(" "):
            return "", next((index for index, line in enumerate(lines) if not line.strip()), len(lines)) or 1
        if head[1] not in SECTIONS:
            raise self.module.unknown(self.node, f"{head[1]}: no such section of a docstring")
        after = (index for index, line in enumerate(lines) if index and line and not line.startswith(" "))
        return head[1], next(after, len(lines))

    def _add_block(self, text: str) -> None:
        if late := re.search(rf"^({'|'.join(SECTIONS)}):$", text, re.MULTILINE):
            raise self.module.unknown(self.node, f"{late[1]}: a section without an empty line before it")
        if text.startswith(" ") and self.blocks and self.blocks[-1].startswith(" "):
            text = f"{self.blocks.pop()}\n\n{text}"
        self.blocks.append(text)

    def _add_section(self, title: str, body: str) -> None:
        if title == "Returns":
            self.returns = body
            return
        entries = self.sections.setdefault(title, [])
        for entry in re.split(r"\n(?=\S)", body):
            names, colon, meaning = " ".join(entry.split()).partition(": ")
            if not colon or not re.fullmatch(r"\*{0,2}[\w.]+(, \*{0,2}[\w.]+)*", names):
                raise self.module.unknown(self.node, f"expected `name: meaning` under {title}, got {entry!r}")
            entries.append((names, meaning))

    @property
    def summary(self) -> str:
        """The first sentence."""
        return re.split(r"(?<=\.)\s", " ".join(self.blocks[0].split()))[0]

    @cached_property
    def told(self) -> set[str]:
        """The names that have an entry as arguments or attributes."""
        entries = [*self.sections.get("Args", []), *self.sections.get("Attributes", [])]
        return {name.lstrip("*") for names, _ in entries for name in names.split(", ")}

    @cached_property
    def references(self) -> list[str]:
        """What stands in single backticks, anywhere."""
        texts = [*self.blocks, self.returns, *(meaning for told in self.sections.values() for _, meaning in told)]
        return [single for text in texts for single, _ in spans(text) if single]


def spans(text: str) -> Iterator[tuple[str, str]]:
    """The text as pairs, one of the two empty: a reference in single backticks, or anything else."""
    for piece in re.split(r"(``.+?``|`[^`]+`)", text):
        is_reference = piece.startswith("`") and not piece.startswith("``")
        yield (piece.strip("`"), "") if is_reference else ("", piece)
