"""The README's table of names, compared with the code and with the tests.

It decides what a row says and what is wrong with it. It looks at names, parameters and sources only: whether a test is
a good one is for its reader.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

import loops_sdk
import loops_sdk_sync
from loops_sdk.docs._environment import ENVIRONMENT

ROOT = Path(__file__).parents[2]
TITLE = "## Every name of the interface, and its test"
#: What only one of the two packages has, and what users get from calls and never make themselves.
ONLY: dict[str, ModuleType] = {"Future": loops_sdk_sync, "ServiceClient.open": loops_sdk}
GIVEN = {"ComposedFuture", "Future", "OperationFuture"}
#: What `loops_sdk_sync.baseten.models` gives the values, as its tests do: no names of the interface.
OF_THE_SERVICE = {"model_dump", "model_validate"}
#: Names that the two forms of a member do not share.
SPELT = {"close": "aclose"}

_ROW = re.compile(r"\| (?P<names>`[^|]+`) \| (?P<tests>`[^|]+`) \|")
_NAME = re.compile(r"(?P<name>[^()]+)(?:\((?P<parameters>[^()]*)\))?")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]+")


@attrs.frozen
class Row:
    """A name with its tests. `parameters` is `None` for what is not called; a name in quotes is a text on the wire."""

    name: str
    parameters: tuple[str, ...] | None
    tests: tuple[str, ...]

    @property
    def kind(self) -> str:
        if self.name.startswith('"') or self.name == "-100":
            return "text"
        return "variable" if _VARIABLE.fullmatch(self.name) else "code"

    @property
    def words(self) -> list[str]:
        """What its tests have to mention. Who calls it has given its only parameter; keywords of any name have none."""
        named = [name for name in self.parameters or () if not name.startswith("*")]
        return [self.name.strip('"').rpartition(".")[2], *(named if len(named) > 1 else [])]


def read(readme: str) -> list[Row]:
    """The rows of the table, which is the README's last section.

    Raises:
        ValueError: there is no such section at the end, or a line of it is no row.
    """
    _, _, section = readme.rpartition("\n## ")
    if not f"## {section}".startswith(f"{TITLE}\n"):
        raise ValueError(f"the last section of the README is not {TITLE!r}")
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [row for line in lines[2:] for row in _rows(line)]


def _rows(line: str) -> Iterator[Row]:
    match = _ROW.fullmatch(line)
    if match is None:
        raise ValueError(f"no row of `name(parameters)` and `path::test`: {line}")
    tests = tuple(re.findall(r"`([^`]+)`", match["tests"]))
    for text in re.findall(r"`([^`]+)`", match["names"]):
        name = _NAME.fullmatch(text)
        if name is None:
            raise ValueError(f"no name with or without parameters: {text}")
        given = name["parameters"]
        yield Row(name["name"], None if given is None else tuple(re.findall(r"[^,\s]+", given)), tests)


def faults(readme: str, tests: Path = ROOT / "tests") -> list[str]:
    """All that is wrong with the table, one line each."""
    rows = read(readme)
    names = [row.name for row in rows]
    twice = [f"{name}: has two rows" for name in sorted({name for name in names if names.count(name) > 1})]
    return [*twice, *_left_out(rows), *(fault for row in rows for fault in (*_missing(row), *_untested(row, tests)))]


# ------------------------------------------------------------------ is it in the code?


def _missing(row: Row) -> Iterator[str]:
    if row.kind == "text" and row.name not in _sources():
        yield f"{row.name}: not in the code"
    if row.kind == "variable" and row.name not in ENVIRONMENT:
        yield f"{row.name}: no environment variable that the code reads"
    if row.kind == "code":
        for place, found in _forms(row.name):
            yield from (f"{place}: {fault}" for fault in _differences(row, found))


@cache
def _sources() -> str:
    packages = (ROOT / "loops_sdk", ROOT / "loops_sdk_sync")
    return "\n".join(path.read_text() for package in packages for path in sorted(package.rglob("*.py")))


def _forms(name: str) -> Iterator[tuple[str, Any]]:
    """Where a name must be found: in the core, in the facade, and there in both forms where the core's is awaited."""
    owner, _, member = name.rpartition(".")
    core = _form(loops_sdk, owner, member) or _form(loops_sdk_sync, owner, member) or member
    facade = {member, core} if core.endswith("_async") else {member}
    only = ONLY.get(name) or ONLY.get(owner)
    for package, forms in ((loops_sdk, {core}), (loops_sdk_sync, facade)):
        for form in sorted(forms) if only in (None, package) else ():
            yield ".".join(filter(None, (package.__name__, owner, form))), _found(package, owner, form)


def _form(package: ModuleType, owner: str, member: str) -> str | None:
    """The name of a member in the core, as far as this package has it: the awaited form, where there is one."""
    forms = (f"{member}_async", SPELT.get(member, member))
    return next((form for form in forms if _found(package, owner, form) is not None), None)


def _found(package: ModuleType, owner: str, member: str) -> Any:
    holder = getattr(package, owner, None) if owner else package
    found = inspect.getattr_static(holder, member, None)
    return getattr(holder, member) if isinstance(found, classmethod) else found


def _differences(row: Row, found: Any) -> Iterator[str]:
    if found is None:
        yield "not in the code"
    elif inspect.isroutine(found) or (isinstance(found, type) and row.parameters is not None):
        taken = _parameters(found)
        called = row.parameters if row.parameters is not None else ()
        if taken != called:
            yield f"takes ({', '.join(taken)}), the table says ({', '.join(called)})"
        elif row.parameters is None and not inspect.iscoroutinefunction(found):
            yield "is called, the table shows no ()"
    elif row.parameters is not None:
        yield "is not called, the table shows ()"


def _parameters(found: Any) -> tuple[str, ...]:
    """Names of what a function or a class takes; a protocol of functions takes what they do."""
    called = found.__call__ if getattr(found, "_is_protocol", False) else found
    taken = inspect.signature(called).parameters.values()
    return tuple(str(one).partition(":")[0].partition("=")[0] for one in taken if one.name != "self")


# ------------------------------------------------------------------ is it in the table?


def _left_out(rows: list[Row]) -> Iterator[str]:
    known = {row.name: row for row in rows}
    for name, constructed in sorted({**dict(_public(loops_sdk)), **dict(_public(loops_sdk_sync))}.items()):
        if name not in known:
            yield f"{name}: has no row"
        elif constructed and known[name].parameters is None:
            yield f"{name}: is constructed, the table shows no parameters"
    yield from (f"{name}: has no row" for name in sorted(set(ENVIRONMENT) - set(known)))


def _public(package: ModuleType) -> Iterator[tuple[str, bool]]:
    """Every public name of a front door and of its classes, and whether it is a class with a constructor of its own."""
    for name in package.__all__:
        found = getattr(package, name)
        is_class = isinstance(found, type) and found.__name__ == name
        yield name.removesuffix("_async"), is_class and "__init__" in vars(found) and name not in GIVEN
        if is_class:
            yield from ((f"{name}.{member}", False) for member in _members(found))


def _members(kind: type) -> set[str]:
    fields = {field.name for field in attrs.fields(kind)} if attrs.has(kind) else set()
    return {name.removesuffix("_async") for name in vars(kind) if not name.startswith("_")} - fields - OF_THE_SERVICE


# ------------------------------------------------------------------ is it tested?


def _untested(row: Row, tests: Path) -> Iterator[str]:
    told = []
    for test in row.tests:
        path, _, function = test.partition("::")
        code = _code(tests / path, function)
        if code is None:
            yield f"{row.name}: there is no test {test}"
        elif not any(_mentions(code, word) for word in row.words):
            yield f"{row.name}: {test} mentions neither it nor a parameter"
        else:
            told.append(code)
    for word in row.words if told else ():
        if not _mentions("\n".join(told), word):
            yield f"{row.name}: no test of its row mentions {word}"


def _mentions(code: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(_async)?(?!\w)", code) is not None


@cache
def _code(path: Path, function: str) -> str | None:
    """The source of a test and of all that it names of its module; `None` when there is no such test."""
    parts = _definitions(path) if path.is_file() else {}
    if not function.startswith("test_") or function not in parts:
        return None
    reached, queue = {function}, [function]
    while queue:
        named = set(re.findall(r"\w+", parts[queue.pop()])) & parts.keys() - reached
        reached |= named
        queue += named
    return "\n".join(parts[name] for name in sorted(reached))


@cache
def _definitions(path: Path) -> dict[str, str]:
    """The functions, classes and constants of a module by name, with their sources, decorators included."""
    text, found = path.read_text(), {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names, first = [node.name], min([node.lineno, *(one.lineno for one in node.decorator_list)])
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            first = node.lineno
        else:
            continue
        source = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
        found.update(dict.fromkeys(names, source))
    return found
