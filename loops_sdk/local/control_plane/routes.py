"""What all routes of the control plane share: how one is given to the server, and how a reply is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
from aiohttp import web

from loops_sdk._wire.codec import encode
from loops_sdk._wire.endpoints import Endpoint
from loops_sdk.local.serving import json_reply

__all__ = ["NoFields", "Route", "reply"]

#: A call of the table, and what answers it.
Route: TypeAlias = tuple[Endpoint[Any], Callable[[web.Request], Awaitable[web.StreamResponse]]]


@attrs.frozen
class NoFields:
    """An empty object, or no body at all."""


def reply(value: Any) -> web.Response:
    """A reply with a value of the API, or a dict of them."""
    return json_reply(encode(value))
