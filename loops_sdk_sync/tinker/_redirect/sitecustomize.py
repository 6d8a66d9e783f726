"""Run by every Python that starts with this folder on PYTHONPATH: `tinker` and `baseten.loops` will mean our package.

It costs next to nothing: the finder of `loops_sdk_sync.tinker.loader` is brought in by the first import of one of
these names. The `sitecustomize` that this one hides, if there is any, is run in its place.
"""

import os
import sys

TYPE_CHECKING = False  # the one of `typing` would be the most expensive line of this module
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

FOLDER = os.path.dirname(__file__)
#: Where our packages lie: children take the very ones of their parent, whatever else is on their path, or nothing.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(FOLDER)))


class Waiting:
    """Stands before all other finders until one of the names is asked for, and gives way to the real finder then."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name in ("loops_sdk", "loops_sdk_sync"):
            from importlib.machinery import PathFinder

            return PathFinder.find_spec(name, [ROOT])
        if name.partition(".")[0] not in ("tinker", "baseten"):
            return None
        import importlib.util

        from loops_sdk_sync.tinker.loader import install

        install()
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        return importlib.util.find_spec(name)


def run_hidden() -> None:
    """Give the name `sitecustomize` to the next module of it, as if this folder were not there."""
    sys.path[:] = [entry for entry in sys.path if entry != FOLDER]
    this = sys.modules.pop(__name__)
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != __name__:
            raise
        sys.modules[__name__] = this


sys.meta_path.insert(0, Waiting())
run_hidden()
