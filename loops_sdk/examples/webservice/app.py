"""The web side: which routes there are and what each answers. It trains nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from answering import Answer
from feedback import Full
from incoming import AtMost, body, broken, busy, text, told, wrong
from learning import Learner
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from loops_sdk import InvalidInputError, LoopsError

PAGE = Path(__file__).parent / "page"


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
