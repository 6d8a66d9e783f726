"""Who ends because nobody asks anything of it: the idlest one when room is needed, and whoever has been idle for as
long as its run allows. It decides from numbers alone; it measures nothing and stops nothing.

Without a delay of its own a run stays until room is needed: a machine that is idle anyway gains nothing by ending it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import attrs

__all__ = ["Served", "overdue", "to_make_room"]

#: When the machine is full, what nobody has asked anything of for this many seconds gives way.
_GIVES_WAY_AFTER = 60.0
#: `Deployed.idle` may be this many seconds too long. A run in use must not end.
_GIVE_OR_TAKE = 5.0


@attrs.frozen(eq=False)
class Served:
    """A run, or a sampler of its own, that somebody serves.

    Attributes:
        name: its id.
        idle: seconds since a client last asked anything of its trainer or its sampler.
        delay: seconds of idleness after which it ends by itself; `None` for never.
        end: ends it; its checkpoints stay.
    """

    name: str
    idle: float
    delay: int | None
    end: Callable[[], Awaitable[object]]


def to_make_room(served: Iterable[Served]) -> Served | None:
    """The one that has been idle longest, if that is long enough to take its place away.

    Scripts end without a word, so what they left running must not keep the next one out.
    """
    idlest = max(served, key=lambda one: one.idle, default=None)
    return idlest if idlest is not None and idlest.idle >= _GIVES_WAY_AFTER else None


def overdue(served: Iterable[Served]) -> Served | None:
    """One that has been idle for longer than its own delay, if there is one."""
    return next((one for one in served if one.delay is not None and one.idle >= one.delay + _GIVE_OR_TAKE), None)
