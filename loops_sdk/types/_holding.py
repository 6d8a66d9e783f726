"""What values hold and how they show it: a dict that stays as it is, and long sequences on one short line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """A dict that cannot be changed, with a hash if its values have one. ``dict(frozen)`` is a copy that can."""

    def __init__(self, items: Mapping[K, V], name: str) -> None:
        super().__init__(items)
        self._name = name

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError(f"{self._name} cannot be changed; make a new value from {{**{self._name}, ...}}")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType]

    def __hash__(self) -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        """By construction: unpickling would fill it item by item."""
        return FrozenDict, (dict(self), self._name)


def few(items: Sequence[Any] | None, most: int = 4) -> str:
    """The `repr` of a sequence, cut after the first few items."""
    if items is None or len(items) <= most:
        return repr(items)
    start, end = ("(", ")") if isinstance(items, tuple) else ("[", "]")
    return f"{start}{', '.join(map(repr, items[:most]))}, ... {len(items)} in all{end}"
