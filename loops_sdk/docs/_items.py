"""Public names and the members of public classes: where their heading stands, and what signature they have.

It decides what is public and how a signature is written. A shape that it does not know is an error.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING or __package__:
    from loops_sdk.docs._reading import Doc, Function, Module, Named, names_of
else:  # part of a script, which imports neither package
    from _reading import Doc, Function, Module, Named, names_of

WIDTH = 100

#: Classes that only the clients make: how is their own business.
MADE = {"ComposedFuture", "Future", "OperationFuture"}
#: Arguments of `attrs.field` that say nothing about the signature, and those that do.
SILENT, TELLING = {"validator", "converter", "repr", "eq", "hash"}, {"default", "factory", "init", "kw_only"}


class Parameter(NamedTuple):
    """One parameter of a signature: its name (empty for a bare ``*`` or ``/``), as it is written, and where."""

    name: str
    text: str
    node: ast.AST


class Field(NamedTuple):
    """A field of an attrs class, and what it is as a parameter."""

    parameter: Parameter
    init: bool
    keyword_only: bool


class Item:
    """A public name, or a member of a public class."""

    def __init__(self, module: Module, node: Named, name: str, door: str, page: str, owner: Item | None = None) -> None:
        self.module, self.node, self.name = module, node, name
        self.door, self.page, self.owner = door, page, owner

    @property
    def title(self) -> str:
        return f"{self.owner.title}.{self.name}" if self.owner else self.name

    @property
    def heading(self) -> str:
        """With a blank for the dot: the anchors of `Checkpoint.path` and `CheckpointPath` must differ."""
        return f"{self.owner.name}: {self.name}" if self.owner else self.name

    @property
    def address(self) -> str:
        """Page and anchor, as GitHub and others make it of a heading."""
        return f"{self.page}.md#{re.sub(r'[^a-z0-9_-]', '', self.heading.lower().replace(' ', '-'))}"

    @cached_property
    def doc(self) -> Doc:
        if isinstance(self.node, ast.ClassDef | Function):
            text = ast.get_docstring(self.node)
        else:
            text = self.module.comment(self.node)
        if not text:
            raise self.module.unknown(self.node, f"{self.title}: public and without documentation")
        return Doc(inspect.cleandoc(text), self.module, self.node)

    # ------------------------------------------------------------ classes

    @cached_property
    def members(self) -> dict[str, Item]:
        """Public methods, properties and constants of a class, with those that private bases bring."""
        found: dict[str, Item] = {}
        for module, kind in self._lineage(public=False):
            for node in kind.body:
                for name in names_of(node) if _has_heading(node, module, kind) else []:
                    assert isinstance(node, Named)
                    found.setdefault(name, Item(module, node, name, self.door, self.page, self))
        return found

    def _lineage(self, *, public: bool) -> list[tuple[Module, ast.ClassDef]]:
        """The class and its bases in our sources, nearest first, public ones only when asked for."""
        classes = [(self.module, self.node)] if isinstance(self.node, ast.ClassDef) else []
        for module, kind in classes:
            for _, found in _bases(module, kind):
                if found is not None and (public or id(found[1]) not in module.sources.public_nodes):
                    classes.append(found)
        return classes

    @cached_property
    def bases(self) -> list[str]:
        """The bases that readers know."""
        bases = _bases(self.module, self.node) if isinstance(self.node, ast.ClassDef) else []
        shown = self.module.sources.public_nodes
        return [name for name, found in bases if found is None or id(found[1]) in shown]

    @cached_property
    def fields(self) -> list[Field]:
        """The fields of an attrs class, those of its bases first."""
        if not isinstance(self.node, ast.ClassDef) or not _is_attrs(self.node):
            return []
        found: dict[str, Field] = {}
        for module, kind in reversed(self._lineage(public=True)):
            for node in kind.body:
                if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
                    field = _field(module, node)
                    found[field.parameter.name] = field
        return list(found.values())

    # ------------------------------------------------------------ signatures

    @cached_property
    def parameters(self) -> list[Parameter] | None:
        """Those of a function, a method or a constructor of its own; `None` where nothing can be called."""
        if isinstance(self.node, Function):
            is_bound = self.owner is not None and "staticmethod" not in self.decorators
            return list(_parameters(self.module, self.node, bound=is_bound))
        if not isinstance(self.node, ast.ClassDef) or self.name in MADE:
            return None
        for node in self.node.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                return list(_parameters(self.module, node, bound=True))
        if (called := self._called()) is not None:
            return called.parameters
        if not _is_attrs(self.node):
            return None
        taken = [field for field in self.fields if field.init]
        late = [field.parameter for field in taken if field.keyword_only]
        star = [Parameter("", "*", self.node)] if late else []
        return [*(field.parameter for field in taken if not field.keyword_only), *star, *late]

    def _called(self) -> Item | None:
        """How a protocol of functions is called."""
        assert isinstance(self.node, ast.ClassDef)
        bases = {ast.unparse(base).partition("[")[0] for base in self.node.bases}
        methods = (node for node in self.node.body if isinstance(node, ast.FunctionDef) and node.name == "__call__")
        found = next(methods, None) if "Protocol" in bases else None
        return Item(self.module, found, "__call__", self.door, self.page, self) if found else None

    @property
    def decorators(self) -> list[str]:
        if not isinstance(self.node, Function):
            return []
        kinds = [ast.unparse(decorator) for decorator in self.node.decorator_list]
        if unknown := sorted(set(kinds) - {"property", "classmethod", "staticmethod"}):
            raise self.module.unknown(self.node, f"{self.title}: no rule for the decorator {unknown[0]}")
        return kinds

    def signature(self) -> str:
        """How it is called, as Python without bodies."""
        written = [parameter.text for parameter in self.parameters or []]
        if isinstance(self.node, ast.ClassDef):
            called = self._called()
            if called is not None:
                return f"class {self.name}(Protocol):\n{textwrap.indent(called.signature(), '    ')}"
            return f"class {self.name}" if self.parameters is None else _call(f"class {self.name}", written, "")
        if not isinstance(self.node, Function):
            return self.module.source(self.node)
        if self.node.returns is None:
            raise self.module.unknown(self.node, f"{self.title}: no annotation of the result")
        marks = "".join(f"@{kind}\n" for kind in self.decorators)
        start = "async def" if isinstance(self.node, ast.AsyncFunctionDef) else "def"
        return marks + _call(f"{start} {self.name}", written, f" -> {self.module.source(self.node.returns)}")


def _bases(module: Module, kind: ast.ClassDef) -> list[tuple[str, tuple[Module, ast.ClassDef] | None]]:
    """The bases of a class by name, with their place where that is in our sources."""
    made: list[tuple[str, tuple[Module, ast.ClassDef] | None]] = []
    for base in kind.bases:
        name = ast.unparse(base).partition("[")[0]
        found = module.find(name)
        if name not in ("Generic", "Protocol"):
            made.append((name, (found[0], found[1]) if found and isinstance(found[1], ast.ClassDef) else None))
    return made


def _has_heading(node: ast.stmt, module: Module, kind: ast.ClassDef) -> bool:
    names = names_of(node)
    if not names or any(name.startswith("_") for name in names):
        return False
    if isinstance(node, ast.ClassDef):
        raise module.unknown(node, f"{node.name}: a public class in a class")
    is_field = _is_attrs(kind) and isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation)
    return not is_field


def _is_attrs(node: ast.ClassDef) -> bool:
    return any(ast.unparse(one).partition("(")[0] in ("attrs.frozen", "attrs.define") for one in node.decorator_list)


def _field(module: Module, node: ast.AnnAssign) -> Field:
    """A field with its default as a caller sees it."""
    (name,) = names_of(node)
    text = f"{name}: {module.source(node.annotation)}"
    if not isinstance(node.value, ast.Call) or ast.unparse(node.value.func) != "attrs.field":
        default = "" if node.value is None else f" = {module.default(node.value)}"
        return Field(Parameter(name, text + default, node), init=True, keyword_only=False)
    said = {keyword.arg or "**": keyword.value for keyword in node.value.keywords}
    if unknown := sorted(said.keys() - SILENT - TELLING):
        raise module.unknown(node, f"{name}: no rule for {unknown[0]} of attrs.field")
    if "default" in said:
        text = f"{text} = {module.default(said['default'])}"
    elif "factory" in said:
        text = f"{text} = {_made_by(module.source(said['factory']))}"
    init, keyword_only = (said.get(switch) for switch in ("init", "kw_only"))
    return Field(
        Parameter(name, text, node),
        init=init is None or ast.unparse(init) == "True",
        keyword_only=keyword_only is not None and ast.unparse(keyword_only) == "True",
    )


def _made_by(factory: str) -> str:
    return {"list": "[]", "dict": "{}", "tuple": "()"}.get(factory.partition("[")[0], f"{factory}()")


def _parameters(module: Module, node: Function, *, bound: bool) -> Iterator[Parameter]:
    spec = node.args
    plain = [*spec.posonlyargs, *spec.args]
    defaults: list[ast.expr | None] = [*[None] * (len(plain) - len(spec.defaults)), *spec.defaults]
    for index, (parameter, default) in enumerate(zip(plain, defaults, strict=True)):
        if index or not bound:
            yield _parameter(module, parameter, default)
        if spec.posonlyargs and index + 1 == len(spec.posonlyargs):
            yield Parameter("", "/", node)
    if spec.vararg:
        yield _parameter(module, spec.vararg, None, "*")
    elif spec.kwonlyargs:
        yield Parameter("", "*", node)
    for parameter, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
        yield _parameter(module, parameter, default)
    if spec.kwarg:
        yield _parameter(module, spec.kwarg, None, "**")


def _parameter(module: Module, node: ast.arg, default: ast.expr | None, stars: str = "") -> Parameter:
    if node.annotation is None:
        raise module.unknown(node, f"{node.arg}: a parameter without annotation")
    text = f"{stars}{node.arg}: {module.source(node.annotation)}"
    return Parameter(node.arg, text if default is None else f"{text} = {module.default(default)}", node)


def _call(head: str, arguments: list[str], tail: str) -> str:
    whole = f"{head}({', '.join(arguments)}){tail}"
    if len(whole) <= WIDTH or not arguments:
        return whole
    return f"{head}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f"){tail}"
