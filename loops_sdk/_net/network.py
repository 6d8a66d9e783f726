"""What the clients of one service share: a pool of connections, the caller that retries, the poller."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

from loops_sdk._net.caller import Caller
from loops_sdk._net.poller import Poller
from loops_sdk._net.transport import Transport
from loops_sdk.errors import InvalidInputError
from loops_sdk.instrumentation import Observer, log_events, tell
from loops_sdk.instrumentation.redacting import keep_out_of_logs

#: A key, or a function that gives it; `None` takes it from the environment.
ApiKey: TypeAlias = str | Callable[[], str] | None

_MAX_CONNECTIONS = "BT_LOOPS_MAX_CONNECTIONS"
_API_KEY = "BASETEN_API_KEY"


class Network:
    """Transport, caller and poller, opened on first use and closed together.

    Args:
        api_key: the key, or a function that gives it, called once and now. `None` takes ``BASETEN_API_KEY``; an empty
            string sends no key at all.
        observers: who hears of events, beside the log.

    Attributes:
        portable_key: what another process may be told of the key, which is never the key itself: the function that
            gives it, that none is sent, or where to look for one.
        draws_curves: whether an observer wants numbers that have to be worked out.
    """

    def __init__(self, api_key: ApiKey = None, observers: Sequence[Observer] = ()) -> None:
        self.portable_key: ApiKey = api_key if callable(api_key) or api_key == "" else key_of_process
        key = _key(api_key)
        keep_out_of_logs(key)
        self.transport = Transport(api_key=key, max_connections=_pool_size())
        self.draws_curves = any(getattr(observer, "draws_curves", False) for observer in observers)
        self.caller = Caller(self.transport, tell((log_events, *observers)), observers)
        self.poller = Poller(self.transport)

    async def aclose(self) -> None:
        """Close the poller, then the connections."""
        await self.poller.aclose()
        await self.transport.aclose()


def key_of_process() -> str:
    """The key of a client that came here without its own."""
    key = os.environ.get(_API_KEY)
    if not key:
        raise InvalidInputError(
            f"api_key: the key of this client stayed in the process that made it, and {_API_KEY} is not set in this "
            f"one. Set it, or make the client with api_key=FUNCTION, a function of a module that returns the key"
        )
    return key


def _key(given: ApiKey) -> str:
    if callable(given):
        return _checked(given(), "the given function gave")
    key = given if given is not None else os.environ.get(_API_KEY) or None
    if key is None:
        raise InvalidInputError(
            f"api_key: none was given and {_API_KEY} is not set. Pass api_key=..., or run your script with "
            f"`loops run SCRIPT` to use a local deployment without an account"
        )
    return _checked(key, "got")


def _checked(key: object, how: str) -> str:
    if not isinstance(key, str):
        raise InvalidInputError(f"api_key: expected a string, or a function that gives one; {how} {type(key).__name__}")
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise InvalidInputError(
            "api_key: expected printable ASCII without spaces around it (the value is not shown here); was a line "
            "break copied with it?"
        )
    return key


def _pool_size() -> int | None:
    text = os.environ.get(_MAX_CONNECTIONS)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InvalidInputError(f"{_MAX_CONNECTIONS}: expected a whole number >= 1, got {text!r}")
    return int(text)
