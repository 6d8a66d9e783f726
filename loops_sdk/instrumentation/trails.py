"""A call and what follows it: observers that want to know which events belong together, and to send something along.

It decides how such an observer is asked, and that its failures stay its own. It does not know what is followed for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import attrs

from loops_sdk.instrumentation.events import Event
from loops_sdk.instrumentation.observers import Emit, Observer, tell
from loops_sdk.instrumentation.redacting import logger

__all__ = ["Call", "Follower", "Trail", "Trails"]

_log = logger("loops_sdk")


@attrs.frozen
class Call:
    """A call that begins, before anything of it is sent.

    Attributes:
        operation: its name, for example ``"forward_backward"`` or ``"sample"``.
        url: the address that it goes to.
        idempotency_key: the key under which an operation is submitted; `None` for a sample.
        operation_id: the trainer's id, of an operation that is taken up again; else `None`.
        run_id: the run of the client, if it has one.
        model: name of the base model, where the client knows it.
        sampler_id: the service's id of the sampler, where the client knows it.
    """

    operation: str
    url: str
    idempotency_key: str | None = None
    operation_id: str | None = None
    run_id: str | None = None
    model: str | None = None
    sampler_id: str | None = None


class Follower(Protocol):
    """Follows one call: it hears the events of that call, in their order, as an observer does.

    Args:
        event: an event of the call.
    """

    @property
    def headers(self) -> Mapping[str, str]:
        """What all requests of the call carry beside what is theirs, its retries and polls too."""
        ...

    def __call__(self, event: Event) -> None:
        """Hear an event of the call."""
        ...


Follow = Callable[[Call], Follower]


@attrs.frozen
class Trail:
    """Where the events of one call go.

    Attributes:
        emit: what they are given to.
        headers: what the requests of the call carry beside what is theirs.
        run_id: the run that the call belongs to, if it is known.
    """

    emit: Emit
    headers: Mapping[str, str] = MappingProxyType({})
    run_id: str | None = None

    def added(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """`headers` with those of the call."""
        return {**headers, **self.headers} if self.headers else headers


class Trails:
    """Begins the trails of all calls. An observer that has a method `follow` is called with each `Call`, in the context
    of who made it, and returns a `Follower`. Where no observer has one, all calls share one trail.

    Args:
        emit: what events are given to.
        observers: who may want to follow.
        about: fields of every `Call`, for example the run.
    """

    def __init__(self, emit: Emit, observers: Sequence[Observer] = (), **about: str | None) -> None:
        self._observers, self._about = observers, about
        self._plain = Trail(emit, run_id=about.get("run_id"))
        able = (getattr(one, "follow", None) for one in observers)
        self._follow: list[Follow] = [follow for follow in able if follow is not None]

    def of(self, **about: str | None) -> Trails:
        """The same for the calls of one client."""
        return Trails(self._plain.emit, self._observers, **about)

    def begin(self, operation: str, url: str, idempotency_key: str | None = None, **ids: str | None) -> Trail:
        """The trail of a call that begins now."""
        if not self._follow:
            return self._plain
        call = Call(operation, url, idempotency_key, **self._about, **ids)
        followers = [one for follow in self._follow if (one := _followed(follow, call)) is not None]
        headers = {name: value for follower in followers for name, value in follower.headers.items()}
        return Trail(tell((self._plain.emit, *followers)), headers, call.run_id)


def _followed(follow: Follow, call: Call) -> Follower | None:
    try:
        return follow(call)
    except Exception:
        _log.exception("an observer failed to follow %s", call.operation)
        return None
