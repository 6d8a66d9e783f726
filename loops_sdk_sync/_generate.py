"""Writes `loops_sdk_sync/_generated` from the core's clients: python loops_sdk_sync/_generate.py [--check]

It copies the text of signatures, annotations, defaults and docstrings, and writes bodies of one statement. It decides
nothing about behaviour; a shape it does not know is an error with file and line, and so is a rule that nothing used.
It needs the standard library only and imports neither package, so that it can mend a facade that does not import.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import difflib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

WIDTH = 120

#: The classes that are transcribed, by module. A module may name the clients of those below it.
CLIENTS = {"sampling": "SamplingClient", "training": "TrainingClient", "service": "ServiceClient"}
#: Results that become a `Future`, by the name that annotations give them.
FUTURES = {"OperationFuture", "ComposedFuture", "ForwardBackwardFuture"}
#: Clients whose constructor opens them at once: by class, the coroutine that does it in the core.
OPENS = {"ServiceClient": "open_async"}
#: Coroutines whose blocking form is a property.
PROPERTIES = {"policy_version_async"}
#: Coroutines whose blocking form has a name of its own.
RENAMED = {"aclose": "close"}
#: What `Proxy` does for every client.
PROXIED = {"__repr__", "__reduce__", "__aenter__", "__aexit__"}
#: Sentences of docstrings that are true of the core only, and what is true here.
WORDING = {
    "``async with ServiceClient() as service:`` opens the session; without it the first call does.": (
        "Construction opens the session; ``with``, `close` or the end of the program closes it."
    ),
    "Construction does no I/O. Everything": "Everything",
    "Use it in one event loop.": "Use it from any thread and event loop.",
    "Use a client in one event loop.": "Use it from any thread and event loop.",
    "Construction does no I/O; use it in one event loop.": "Use it from any thread and event loop.",
}

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Unknown(Exception):
    """A shape of the core's source that no rule covers."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")


class Call(NamedTuple):
    """A call to be written, on one line if it fits."""

    head: str
    arguments: list[str | Call]

    def __str__(self) -> str:
        return f"{self.head}({', '.join(map(str, self.arguments))})"

    def lines(self, before: str, after: str, indent: int) -> str:
        """``before`` and the call and ``after``, broken after each argument where it must be."""
        whole = f"{' ' * indent}{before}{self}{after}"
        if len(whole) <= WIDTH or not self.arguments:
            return whole + "\n"
        inner = "".join(
            argument.lines("", ",", indent + 4) if isinstance(argument, Call) else f"{' ' * (indent + 4)}{argument},\n"
            for argument in self.arguments
        )
        return f"{' ' * indent}{before}{self.head}(\n{inner}{' ' * indent}){after}\n"


class Rules:
    """Which entries of the tables were used."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def use(self, rule: str) -> str:
        self._used.add(rule)
        return rule

    def unused(self) -> list[str]:
        every = {*CLIENTS.values(), *FUTURES, *OPENS.values(), *PROPERTIES, *RENAMED, *PROXIED, *WORDING}
        return sorted(every - self._used)


class Module:
    """One module of the core on its way into the facade."""

    def __init__(self, path: Path, front_door: set[str], rules: Rules) -> None:
        self.path = path
        source = path.read_text(encoding="utf-8")
        self.lines = source.splitlines(keepends=True)
        self.tree = ast.parse(source, str(path))
        self.rules = rules
        self.front_door = front_door
        self.client = rules.use(CLIENTS[path.stem])
        self.names: dict[str, int] = {}
        self.made: set[str] = {self.client}

    def unknown(self, node: ast.AST, message: str) -> Unknown:
        return Unknown(self.path, getattr(node, "lineno", 1), message)

    # ------------------------------------------------------------------ the text of a module

    def text(self) -> str:
        found = [node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == self.client]
        if len(found) != 1:
            raise self.unknown(self.tree, f"expected one class {self.client}, found {len(found)}")
        body = self.class_text(found[0])
        return f"{self.head()}\n\nclass {self.client}(Proxy[loops_sdk.{self.client}]):\n{body}"

    def head(self) -> str:
        origin = f"loops_sdk/_clients/{self.path.name}"
        always, guarded = Imports(self).sorted()
        guard = f"\nif TYPE_CHECKING:\n{guarded}" if guarded else ""
        return (
            f'"""The blocking face of `loops_sdk.{self.client}`.\n\n'
            f"Generated by loops_sdk_sync/_generate.py from {origin}. Change that, and generate again.\n"
            f'"""\n\nfrom __future__ import annotations\n\n{always}{guard}'
        )

    def class_text(self, node: ast.ClassDef) -> str:
        if node.bases or node.keywords or node.decorator_list:
            raise self.unknown(node, "a client with bases or decorators")
        parts = [part for member in node.body for part in self.member(member)]
        return self.docstring(node, 4) + "\n" + "\n".join(parts)

    def member(self, node: ast.stmt) -> Iterator[str]:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            raise self.unknown(node, f"{type(node).__name__} in a client")
        if node.name in PROXIED:
            self.rules.use(node.name)
        elif node.name == "__init__":
            yield self.constructor(node)
        elif node.name.startswith("__"):
            raise self.unknown(node, f"{node.name}: no rule for this special method")
        elif not node.name.startswith("_"):
            yield from self.public(node)

    def public(self, node: Function) -> Iterator[str]:
        if node.returns is None:
            raise self.unknown(node, f"{node.name}: no annotation of the result")
        kinds = [ast.unparse(decorator) for decorator in node.decorator_list]
        if OPENS.get(self.client) == node.name:
            self.rules.use(node.name)
        elif isinstance(node, ast.AsyncFunctionDef) and kinds in ([], ["classmethod"]):
            yield from self.coroutine(node, kinds)
        elif isinstance(node, ast.FunctionDef) and kinds in ([], ["property"], ["classmethod"]):
            yield self.plain(node, kinds)
        else:
            raise self.unknown(node, f"{node.name}: no rule for the decorators {kinds}")

    # ------------------------------------------------------------------ members

    def constructor(self, node: Function) -> str:
        arguments: list[str | Call] = [Call(f"loops_sdk.{self.client}", [*self.forwarded(node)])]
        if self.client in OPENS:
            arguments.append(f"loops_sdk.{self.client}.{OPENS[self.client]}")
        return self.function(node, "__init__", [], Call("self._start", arguments), "")

    def plain(self, node: ast.FunctionDef, kinds: list[str]) -> str:
        if "property" in kinds:
            return self.function(node, node.name, kinds, Call("", []), "return ", f"self._core.{node.name}")
        if not kinds:
            self.only_value(node)
            return self.function(node, node.name, [], Call(f"self._core.{node.name}", [*self.forwarded(node)]))
        core = Call(f"loops_sdk.{self.client}.{node.name}", [*self.forwarded(node)])
        return self.function(node, node.name, kinds, self.converted(node, core, alone=True))

    def coroutine(self, node: ast.AsyncFunctionDef, kinds: list[str]) -> Iterator[str]:
        if any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node)):
            raise self.unknown(node, f"{node.name}: an asynchronous generator")
        blocking = self.blocking_name(node)
        decorators = ["property"] if node.name in PROPERTIES else kinds
        target = f"loops_sdk.{self.client}" if kinds else "self._core"
        door = "portal()" if kinds else "self._portal"
        if kinds:
            self.made.add("portal")
        arguments: list[str | Call] = [f"{target}.{node.name}", *self.forwarded(node)]
        calls = [Call(f"{door}.call", arguments), Call(f"await {door}.call_async", arguments)]
        bodies = [self.converted(node, call, alone=bool(kinds)) for call in calls]
        yield self.function(node, blocking, decorators, bodies[0])
        yield self.function(node, node.name, kinds, bodies[1], asynchronous=True)

    def blocking_name(self, node: Function) -> str:
        if node.name in PROPERTIES or node.name in RENAMED:
            self.rules.use(node.name)
        if node.name in RENAMED:
            return RENAMED[node.name]
        if not node.name.endswith("_async"):
            raise self.unknown(node, f"{node.name}: a public coroutine whose name does not end in _async")
        return node.name.removesuffix("_async")

    def converted(self, node: Function, core: Call, *, alone: bool) -> Call:
        """The call of the core, its result turned into ours where it is a client or a future."""
        returns = node.returns
        if isinstance(returns, ast.Name) and returns.id in ("Self", self.client) and alone:
            return Call("cls._alone", [core])
        if isinstance(returns, ast.Name) and returns.id in CLIENTS.values():
            return Call(f"{returns.id}._around", [core, "self"])
        if isinstance(returns, ast.Name) and returns.id in FUTURES:
            return Call("self._future", [core])
        if isinstance(returns, ast.Subscript) and isinstance(returns.value, ast.Name) and returns.value.id in FUTURES:
            if isinstance(returns.slice, ast.Name) and returns.slice.id in CLIENTS.values():
                return Call("self._future_of", [f"{returns.slice.id}._around", core])
            return Call("self._future", [core])
        self.only_value(node)
        return core

    def only_value(self, node: Function) -> None:
        named = {inner.id for inner in ast.walk(node.returns or node) if isinstance(inner, ast.Name)}
        if named & {*FUTURES, *CLIENTS.values(), "Self"}:
            raise self.unknown(node, f"{node.name}: no rule for this result")

    # ------------------------------------------------------------------ pieces

    def function(
        self,
        node: Function,
        name: str,
        decorators: list[str],
        call: Call,
        returning: str | None = None,
        expression: str = "",
        *,
        asynchronous: bool = False,
    ) -> str:
        gives_none = isinstance(node.returns, ast.Constant) and node.returns.value is None
        before = returning if returning is not None else "" if gives_none else "return "
        define = Call(f"{'async ' if asynchronous else ''}def {name}", [*self.parameters(node)])
        body = f"        {before}{expression}\n" if expression else call.lines(before, "", 8)
        marks = "".join(f"    @{decorator}\n" for decorator in decorators)
        signature = define.lines("", f" -> {self.segment(node.returns)}:", 4)
        return marks + signature + self.docstring(node, 8) + body

    def parameters(self, node: Function) -> Iterator[str]:
        """Every parameter as the source writes it, `self` or `cls` first."""
        spec = node.args
        plain = [*spec.posonlyargs, *spec.args]
        defaults: list[ast.expr | None] = [*[None] * (len(plain) - len(spec.defaults)), *spec.defaults]
        for index, (parameter, default) in enumerate(zip(plain, defaults, strict=True)):
            yield self.parameter(parameter, default, bare=index == 0)
            if spec.posonlyargs and index + 1 == len(spec.posonlyargs):
                yield "/"
        if spec.vararg:
            yield "*" + self.parameter(spec.vararg, None)
        elif spec.kwonlyargs:
            yield "*"
        for parameter, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
            yield self.parameter(parameter, default)
        if spec.kwarg:
            yield "**" + self.parameter(spec.kwarg, None)

    def parameter(self, node: ast.arg, default: ast.expr | None, *, bare: bool = False) -> str:
        if bare:
            return node.arg
        if node.annotation is None:
            raise self.unknown(node, f"{node.arg}: a parameter without annotation")
        if {inner.id for inner in ast.walk(node.annotation) if isinstance(inner, ast.Name)} & {*CLIENTS.values()}:
            raise self.unknown(node, f"{node.arg}: a client as parameter")
        text = f"{node.arg}: {self.segment(node.annotation)}"
        return text if default is None else f"{text} = {self.segment(default)}"

    def forwarded(self, node: Function) -> Iterator[str]:
        spec = node.args
        yield from (parameter.arg for parameter in [*spec.posonlyargs, *spec.args][1:])
        if spec.vararg:
            yield f"*{spec.vararg.arg}"
        yield from (f"{parameter.arg}={parameter.arg}" for parameter in spec.kwonlyargs)
        if spec.kwarg:
            yield f"**{spec.kwarg.arg}"

    def segment(self, node: ast.expr | None) -> str:
        """The source of an expression; the names in it are remembered, to be imported."""
        if node is None or node.lineno != node.end_lineno:
            raise self.unknown(node or self.tree, "an annotation or default over several lines")
        text = self.lines[node.lineno - 1].encode()[node.col_offset : node.end_col_offset].decode()
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name):
                self.names.setdefault(inner.id, inner.lineno)
                if inner.id in FUTURES or inner.id in CLIENTS.values():
                    self.rules.use(inner.id)
        return text

    def docstring(self, node: ast.ClassDef | Function, indent: int) -> str:
        first = node.body[0]
        if ast.get_docstring(node) is None:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                return ""
            raise self.unknown(node, f"{node.name}: public and without a docstring")
        return self.worded("".join(self.lines[first.lineno - 1 : first.end_lineno]), indent)

    def worded(self, text: str, indent: int) -> str:
        """The docstring with the sentences of `WORDING` exchanged, and the paragraphs they stand in filled anew."""
        return "\n\n".join(self.paragraph(paragraph, " " * indent) for paragraph in text.split("\n\n"))

    def paragraph(self, text: str, margin: str) -> str:
        words = " ".join(text.split())
        rules = [core for core in WORDING if core in words]
        for core in rules:
            words = words.replace(self.rules.use(core), WORDING[core])
        filled = textwrap.fill(words, WIDTH, initial_indent=margin, subsequent_indent=margin)
        return filled + "\n" * text.endswith("\n") if rules else text


class Imports:
    """What the generated module must import so that the copied names mean the same, or our counterpart."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.always: dict[str, set[str]] = {"loops_sdk_sync._proxy": {"Proxy"}}
        self.guarded: dict[str, set[str]] = {}
        if "portal" in module.made:
            self.always["loops_sdk_sync._portal"] = {"portal"}
        self.known = {
            alias.asname or alias.name: (statement.module or "", alias.name, is_guarded)
            for statement, is_guarded in _import_statements(module.tree)
            for alias in statement.names
        }
        for name, line in sorted(module.names.items()):
            self.add(name, line)

    def add(self, name: str, line: int) -> None:
        if name != self.module.client and not hasattr(builtins, name):
            origin, is_guarded = self.origin(name, line)
            self.note(self.guarded if is_guarded else self.always, origin, name)

    def origin(self, name: str, line: int) -> tuple[str, bool]:
        """Where the facade finds a name, and whether for type checkers only."""
        if name in FUTURES:
            return "loops_sdk_sync._futures", False
        if name in CLIENTS.values():
            home = next(stem for stem, client in CLIENTS.items() if client == name)
            return f"loops_sdk_sync._generated.{home}", False
        if name in self.module.front_door:
            return "loops_sdk", False
        origin, original, is_guarded = self.known.get(name, ("", "", False))
        if not origin or original != name or (origin.startswith("loops_sdk") and "._" in origin):
            raise Unknown(self.module.path, line, f"{name}: not at the front door of loops_sdk, nor from elsewhere")
        return origin, is_guarded

    @staticmethod
    def note(where: dict[str, set[str]], origin: str, name: str) -> None:
        where.setdefault(origin, set()).add(name)

    def sorted(self) -> tuple[str, str]:
        """The two blocks of imports, in isort's order."""
        if self.guarded:
            self.note(self.always, "typing", "TYPE_CHECKING")
        return self.block(self.always, 0, ["import loops_sdk\n"]), self.block(self.guarded, 4, [])

    @staticmethod
    def block(table: dict[str, set[str]], indent: int, ours: list[str]) -> str:
        sections: list[list[str]] = [[], [], ours]
        for origin in sorted(table):
            root = origin.split(".")[0]
            section = 0 if root in sys.stdlib_module_names else 2 if root.startswith("loops_sdk") else 1
            sections[section].append(_import_line(origin, table[origin], indent))
        return "\n".join("".join(section) for section in sections if section)


def _import_statements(tree: ast.Module) -> Iterator[tuple[ast.ImportFrom, bool]]:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            yield node, False
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from ((inner, True) for inner in node.body if isinstance(inner, ast.ImportFrom))


def _import_line(origin: str, names: set[str], indent: int) -> str:
    """One import, in ruff's format: constants, classes, the rest; broken one a line when it is too long."""
    order = sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name.lower()))
    margin = " " * indent
    line = f"{margin}from {origin} import {', '.join(order)}\n"
    if len(line) <= WIDTH + 1:
        return line
    return f"{margin}from {origin} import (\n" + "".join(f"{margin}    {name},\n" for name in order) + f"{margin})\n"


def generate(root: Path) -> dict[str, str]:
    """The text of every file of the facade's generated part, by name."""
    rules = Rules()
    clients = root / "loops_sdk" / "_clients"
    door = _front_door(root / "loops_sdk" / "__init__.py")
    texts = {f"{stem}.py": Module(clients / f"{stem}.py", door, rules).text() for stem in CLIENTS}
    if unused := rules.unused():
        raise Unknown(Path(__file__), 1, f"rules that nothing used: {', '.join(unused)}")
    return {"__init__.py": '"""Generated by loops_sdk_sync/_generate.py: nothing else may live here."""\n', **texts}


def _front_door(path: Path) -> set[str]:
    for node in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise Unknown(path, 1, "no __all__")


def present(folder: Path) -> dict[str, str]:
    """The files that are there, by name; what Python itself leaves behind is not looked at."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in paths}


def differences(wanted: dict[str, str], found: dict[str, str]) -> str:
    """A unified diff of all files, empty when both are the same."""
    return "".join(
        "".join(_difference(name, found.get(name), wanted.get(name)))
        for name in sorted({*wanted, *found})
        if wanted.get(name) != found.get(name)
    )


def _difference(name: str, found: str | None, wanted: str | None) -> Iterator[str]:
    yield f"{name}: {'is missing' if found is None else 'does not belong here' if wanted is None else 'differs'}\n"
    yield from difflib.unified_diff((found or "").splitlines(keepends=True), (wanted or "").splitlines(keepends=True))


def write(wanted: dict[str, str], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in present(folder).keys() - wanted.keys():
        (folder / name).unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write loops_sdk_sync/_generated from the core's clients.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the files are not up to date")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="source tree (default: this one)")
    options = parser.parse_args(arguments)
    folder = options.root / "loops_sdk_sync" / "_generated"
    try:
        wanted = generate(options.root)
    except (Unknown, SyntaxError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not options.check:
        write(wanted, folder)
    elif difference := differences(wanted, present(folder)):
        sys.stderr.write(f"{difference}\n{folder} is not what the core makes it: python loops_sdk_sync/_generate.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
