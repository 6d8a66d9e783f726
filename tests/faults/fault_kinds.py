"""What can go wrong with one request. Each fault says whether the server has done what was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

from fault_proxy import Exchange, Fault

#: Longer than a test lets one attempt take, so that a response comes after the client gave up.
LATE = 3.0
_STALL = 1.0
_DRIPS = 64


async def reset_before(exchange: Exchange) -> None:
    """The request never reaches the server."""
    exchange.reset()


async def reset_after(exchange: Exchange) -> None:
    """The server has done it, and nobody hears of it."""
    await exchange.forward()
    exchange.reset()


async def reset_within(exchange: Exchange) -> None:
    """The connection breaks at some byte of the response."""
    response = await exchange.forward()
    await exchange.answer(response[: exchange.some_byte(response)])
    exchange.reset()


async def truncate(exchange: Exchange) -> None:
    """The connection is closed, politely, before the body is whole."""
    response = await exchange.forward()
    await exchange.answer(response[: exchange.some_byte(response)])
    exchange.writer.close()


async def stall(exchange: Exchange) -> None:
    """Silence at some byte of the response, then the rest of it."""
    response = await exchange.forward()
    place = exchange.some_byte(response)
    await exchange.answer(response[:place])
    await exchange.pause(_STALL)
    await exchange.answer(response[place:])


async def drip(exchange: Exchange) -> None:
    """The response in many small pieces."""
    response = await exchange.forward()
    size = max(1, len(response) // _DRIPS)
    for start in range(0, len(response), size):
        await exchange.answer(response[start : start + size])
        await asyncio.sleep(0)


async def late(exchange: Exchange) -> None:
    """The response is sent when the client has long given up."""
    response = await exchange.forward()
    await exchange.pause(LATE)
    await exchange.answer(response)


async def duplicate(exchange: Exchange) -> None:
    """The server gets the request twice; the client hears the second answer."""
    await exchange.forward()
    await exchange.answer(await exchange.forward())


async def swap(exchange: Exchange) -> None:
    """The response waits until one to a later request has been delivered."""
    response = await exchange.forward()
    delivered = exchange.proxy.delivered
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(delivered.wait(), 0.5)
    await exchange.answer(response)


async def close_idle(exchange: Exchange) -> None:
    """The connection is closed behind the response, although it was to be kept."""
    await exchange.answer(await exchange.forward())
    exchange.writer.close()


async def refuse(exchange: Exchange) -> None:
    """The connection breaks, and for a moment no other one is taken."""
    exchange.proxy.refuse_for(0.2)
    exchange.reset()


async def _status(exchange: Exchange, *, status: int, after: bool = False, retry: str = "") -> None:
    """A status of the proxy's own, before or after the server has done it."""
    if after:
        await exchange.forward()
    await exchange.answer(_response(status, retry))


def _response(status: int, retry: str) -> bytes:
    body = json.dumps({"detail": f"status {status} of the proxy"}).encode()
    head = f"HTTP/1.1 {status} Fault\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    if retry == "seconds":
        head += "Retry-After: 0.1\r\n"
    if retry == "date":
        head += f"Retry-After: {format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)}\r\n"
    return head.encode() + b"\r\n" + body


FAULTS: dict[str, Fault] = {
    "refuse": refuse,
    "reset before": reset_before,
    "reset after": reset_after,
    "reset within": reset_within,
    "truncate": truncate,
    "stall": stall,
    "drip": drip,
    "late": late,
    "duplicate": duplicate,
    "swap": swap,
    "close idle": close_idle,
    "408": partial(_status, status=408),
    "429 seconds": partial(_status, status=429, retry="seconds"),
    "429 date": partial(_status, status=429, retry="date"),
    "500": partial(_status, status=500),
    "500 after": partial(_status, status=500, after=True),
    "502": partial(_status, status=502),
    "502 after": partial(_status, status=502, after=True),
    "503": partial(_status, status=503, retry="seconds"),
    "504": partial(_status, status=504),
    "504 after": partial(_status, status=504, after=True),
}
