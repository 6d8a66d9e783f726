"""`import tinker` and `import baseten.loops` mean this package: the finder that says so, `install` and `uninstall`.

It decides which names are ours, and that each is the very module of ours under a second name, never a copy. It knows
nothing of what the modules hold.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from loops_sdk import LoopsError

#: Names that scripts import, and the packages of ours that they mean.
OURS = {"tinker": "loops_sdk_sync.tinker", "baseten.loops": "loops_sdk_sync.baseten"}
#: The folder on PYTHONPATH that brings the finder into child processes.
REDIRECT = str(Path(__file__).with_name("_redirect"))

_TOO_LATE = (
    "{name} was imported already, from {origin}: call loops_sdk_sync.tinker.install() before the first import of it, "
    "or run the script with `python -m loops_sdk_sync.tinker SCRIPT`"
)
_NOT_OURS = (
    "No module named {name!r}: {alias} is the namespace of loops_sdk_sync here (`python -m loops_sdk_sync.tinker`, "
    "`loops run --tinker` or install() said so), which has no module {own!r}"
)


def install() -> None:
    """Make `import tinker` and `import baseten.loops` give this package, here and in child processes.

    The modules are the same under both names. Child processes are told by a folder on ``PYTHONPATH`` in `os.environ`:
    those that ignore it (``python -I``, ``-E`` or ``-S``) or get another environment are not reached, nor are worker
    servers that run already. Calling it again changes nothing.

    Raises:
        LoopsError: one of the names was imported before and means something else.
    """
    for name in sorted(sys.modules):
        if _own_name(name) is not None and not _is_ours(name):
            raise LoopsError(_TOO_LATE.format(name=name, origin=getattr(sys.modules[name], "__file__", None)))
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    entries = _python_path()
    if REDIRECT not in entries:
        os.environ["PYTHONPATH"] = os.pathsep.join([REDIRECT, *entries])


def uninstall() -> None:
    """Take back what `install` did, in this process and for children yet to come; for tests.

    Modules stay importable under their own names, and what was imported as `tinker` goes on working.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not _FINDER]
    for name in list(sys.modules):
        if _is_ours(name) or _is_made_here(name):
            del sys.modules[name]
    real = sys.modules.get("baseten")
    if real is not None and vars(real).get("loops", real) is sys.modules.get(OURS["baseten.loops"]):
        del vars(real)["loops"]
    entries = [entry for entry in _python_path() if entry != REDIRECT]
    if entries:
        os.environ["PYTHONPATH"] = os.pathsep.join(entries)
    else:
        os.environ.pop("PYTHONPATH", None)


def _python_path() -> list[str]:
    """The entries of PYTHONPATH; none where it is empty, for an empty entry would mean the working directory."""
    value = os.environ.get("PYTHONPATH", "")
    return value.split(os.pathsep) if value else []


def _own_name(name: str) -> str | None:
    """The name that a module has with us; `None` for one that is not our business."""
    for alias, own in OURS.items():
        if name == alias or name.startswith(f"{alias}."):
            return own + name[len(alias) :]
    return None


def _is_ours(name: str) -> bool:
    own = _own_name(name)
    return own is not None and sys.modules[name] is sys.modules.get(own)


class _Finder(MetaPathFinder):
    """Stands before all other finders, so that the originals are not found, installed or not."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "baseten":
            return next(self._elsewhere(name, path, target), None) or _empty_package(name)
        own = _own_name(name)
        if own is None:
            return None
        found = importlib.util.find_spec(own)
        if found is None:
            alias = next(alias for alias in OURS if name.startswith(alias))
            raise ModuleNotFoundError(_NOT_OURS.format(name=name, alias=alias, own=own), name=name)
        is_package = found.submodule_search_locations is not None
        return ModuleSpec(name, _SameModule(own), origin=found.origin, is_package=is_package)

    def _elsewhere(self, *wanted: Any) -> Iterator[ModuleSpec]:
        for finder in list(sys.meta_path):
            if finder is not self and (found := finder.find_spec(*wanted)) is not None:
                yield found


class _SameModule(Loader):
    """Gives a module that has, or gets now, a name of its own."""

    def __init__(self, own: str) -> None:
        self._own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._own)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # on the way here the import system gave it the spec of the second name

    def get_code(self, _name: str) -> CodeType | None:
        """For ``python -m``."""
        found = importlib.util.find_spec(self._own)
        loader = found.loader if found is not None else None
        return loader.get_code(self._own) if isinstance(loader, InspectLoader) else None


_FINDER = _Finder()


def _empty_package(name: str) -> ModuleSpec:
    """A package that holds nothing but what we put into it, for where the real one is not installed."""
    return ModuleSpec(name, None, origin=__name__, is_package=True)


def _is_made_here(name: str) -> bool:
    spec = getattr(sys.modules[name], "__spec__", None)
    return spec is not None and spec.origin == __name__
