"""The web side: what comes in is checked, bounded and answered; what goes wrong is told as JSON. It trains nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from answering import Answer
from feedback import Full
from learning import Learner
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from loops_sdk import InvalidInputError, LoopsError

PAGE = Path(__file__).parent / "page"
MOST_BYTES = 32 * 1024  # of a request
MOST_CHARACTERS = 2_000  # of a question or a correction


def web_app(lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]], *, most: int) -> Starlette:
    """The application; `lifespan` puts a `Learner` into its state, and `most` answers are given at the same time."""
    routes = [
        Route("/ask", ask, methods=["POST"], middleware=[Middleware(AtMost, most=most)]),
        Route("/feedback", feedback, methods=["POST"]),
        Route("/status", status),
        Route("/health", health),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    refusals: dict[Any, Any] = {HTTPException: told, InvalidInputError: wrong, Full: busy, Exception: broken}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=refusals)


# ---------------------------------------------------------------- routes


async def ask(request: Request) -> Response:
    """An answer to ``{"question": ...}`` as server-sent events: `begin`, `text` as often as there is some, `end`."""
    answer = learner_of(request).begin(text(await body(request), "question"))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # no proxy may wait for the end
    return StreamingResponse(events(learner_of(request), answer), media_type="text/event-stream", headers=headers)


async def events(learner: Learner, answer: Answer) -> AsyncIterator[str]:
    """The answer, event by event. Who goes away takes the request to the sampler along: this is cancelled then."""
    yield event("begin", answer_id=answer.id, policy_version=answer.policy.version)
    try:
        async for piece in answer.pieces():
            yield event("text", text=piece)
    except LoopsError as error:  # 200 has been said long ago
        yield event("error", error=f"the answer broke off: {error}")
    else:
        learner.feedback.remember(answer)
        yield event("end", answer_id=answer.id, policy_versions=answer.versions)


def event(kind: str, **data: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


async def feedback(request: Request) -> Response:
    """``{"answer_id": ..., "thumb": "up" or "down"}``, or ``{"answer_id": ..., "correction": ...}``."""
    given = await body(request)
    answer_id = text(given, "answer_id")
    if ("thumb" in given) == ("correction" in given):
        raise HTTPException(400, "expected either thumb or correction beside answer_id")
    if "correction" in given:
        learner_of(request).feedback.correct(answer_id, text(given, "correction"))
    elif given["thumb"] in ("up", "down"):
        learner_of(request).feedback.rate(answer_id, given["thumb"] == "up")
    else:
        raise HTTPException(400, f"thumb: expected 'up' or 'down', got {str(given['thumb'])[:80]!r}")
    learner_of(request).wake()
    return JSONResponse(learner_of(request).status(), 202)


async def status(request: Request) -> Response:
    """What the page shows: policy version, phase, losses, how much feedback there was."""
    return JSONResponse(learner_of(request).status(), headers={"Cache-Control": "no-store"})


async def health(request: Request) -> Response:
    """200 while questions are answered and feedback is learned, for load balancers."""
    alive = learner_of(request).alive
    return JSONResponse({"status": "ok" if alive else "nothing is learned any more"}, 200 if alive else 503)


def learner_of(request: Request) -> Learner:
    return request.app.state.learner


# ---------------------------------------------------------------- what comes in


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
