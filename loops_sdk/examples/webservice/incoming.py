"""What comes in: how much of it, in which form; and what is refused, told as JSON. It knows no route."""

from __future__ import annotations

import json
from typing import Any

from feedback import Full
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from loops_sdk import InvalidInputError

MOST_BYTES = 32 * 1024  # of a request
MOST_CHARACTERS = 2_000  # of a question or a correction


async def body(request: Request) -> dict[str, Any]:
    """The object that was sent. Wanting its content type keeps forms of other sites out."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "expected JSON, with Content-Type: application/json")
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MOST_BYTES:
            raise HTTPException(413, f"expected at most {MOST_BYTES} bytes")
    try:
        given = json.loads(raw)
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(given, dict):
        raise HTTPException(400, f"expected a JSON object, got {type(given).__name__}")
    return given


def text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value.strip():
        raise HTTPException(400, f"{name}: expected a text that is not empty")
    if len(value) > MOST_CHARACTERS:
        raise HTTPException(400, f"{name}: expected at most {MOST_CHARACTERS} characters, got {len(value)}")
    return value.strip()


class AtMost:
    """Lets this many requests in, and tells the others to come back: a line without end would help nobody."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most, self.inside = app, most, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.inside >= self.most:
            refusal = refused(503, f"{self.most} questions are being answered already; try again in a second", after=1)
            return await refusal(scope, receive, send)
        self.inside += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.inside -= 1


# ---------------------------------------------------------------- what is refused


def refused(code: int, why: str, after: int | None = None) -> Response:
    return JSONResponse({"error": why}, code, headers=None if after is None else {"Retry-After": str(after)})


async def told(request: Request, error: HTTPException) -> Response:
    why = f"{request.method} {request.url.path}: {error.detail}" if error.status_code in (404, 405) else error.detail
    return refused(error.status_code, why)


async def wrong(_: Request, error: InvalidInputError) -> Response:
    return refused(400, error.message)


async def busy(_: Request, error: Full) -> Response:
    return refused(503, str(error), after=10)


async def broken(_: Request, __: Exception) -> Response:
    return refused(500, "an error of this service; its log says more")
