"""What the web side of the web service does by itself: it refuses, it counts, it lets go. Its learner is a double."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
import uvicorn

import loops_sdk
from loops_sdk import Renderer

from .webservice import events

FOLDER = Path(loops_sdk.__file__).parent / "examples" / "webservice"


class Silent:
    """An answer that says one word and then nothing for ever."""

    id, versions = "silent", [3]
    policy = attrs.make_class("Policy", ["version"])(3)

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def pieces(self) -> AsyncIterator[str]:
        yield "Well"
        try:
            await asyncio.Event().wait()
        finally:
            self.let_go.set()


class Learner:
    """Begins real answers, which nobody samples, but for one question."""

    alive = True

    def __init__(self, parts: Any, renderer: Renderer) -> None:
        self._parts, self._renderer = parts, renderer
        self.feedback = parts.Feedback(renderer, 1024)
        self.silent: list[Silent] = []

    def begin(self, question: str) -> Any:
        if question == "Silence":
            self.silent.append(Silent())
            return self.silent[-1]
        return self._parts.Answer(None, self._renderer, question, 1024)

    def wake(self) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of the example, which is a folder of programs and no package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    import answering
    import app
    import feedback

    yield attrs.make_class("Parts", ["web_app", "Answer", "Feedback", "Lesson", "app", "feedback"])(
        app.web_app, answering.Answer, feedback.Feedback, feedback.Lesson, app, feedback
    )
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and FOLDER in Path(str(sys.modules[name].__file__)).parents:
            del sys.modules[name]


@pytest.fixture
def learner(parts: Any) -> Learner:
    from transformers import AutoTokenizer

    weights = Path(loops_sdk.__file__).parent / "local" / "engine" / "tiny" / "weights"
    return Learner(parts, Renderer(AutoTokenizer.from_pretrained(weights)))


@pytest.fixture
async def url(parts: Any, learner: Learner) -> AsyncIterator[str]:
    """The application under uvicorn, with room for two answers."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        app.state.learner = learner
        yield

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(parts.web_app(lifespan, most=2), log_level="error"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


REFUSALS: list[tuple[str, Any, int, str]] = [
    ("/ask", {}, 400, "question: expected a text that is not empty"),
    ("/ask", {"question": 7}, 400, "question: expected a text that is not empty"),
    ("/ask", {"question": "x" * 2001}, 400, "question: expected at most 2000 characters, got 2001"),
    ("/ask", {"question": "7" * 1999}, 400, "the model reads at most 1023"),
    ("/ask", {"question": "\ud800"}, 400, "messages: the chat template"),
    ("/ask", [], 400, "expected a JSON object, got list"),
    ("/ask", {"question": "x" * 40_000}, 413, "expected at most 32768 bytes"),
    ("/feedback", {"answer_id": "none", "thumb": "up"}, 400, "answer_id: 'none' is none of the last 1000"),
    ("/feedback", {"answer_id": "none"}, 400, "expected either thumb or correction"),
    ("/feedback", {"answer_id": "none", "thumb": "sideways"}, 400, "thumb: expected 'up' or 'down'"),
    ("/nowhere", {}, 405, "POST /nowhere: Method Not Allowed"),
]


async def test_what_is_refused_says_why(url: str, session: aiohttp.ClientSession) -> None:
    for path, body, code, error in REFUSALS:
        async with session.post(url + path, json=body) as response:
            told = (await response.json())["error"]
            assert (response.status, error in told) == (code, True), told
    async with session.post(f"{url}/ask", data={"question": "From a form of another site"}) as response:
        assert response.status == 415
    async with session.post(f"{url}/ask", data=b"{", headers={"Content-Type": "application/json"}) as response:
        assert (response.status, await response.json()) == (400, {"error": "the body is not JSON"})
    async with session.get(f"{url}/nowhere") as response:
        assert (response.status, await response.json()) == (404, {"error": "GET /nowhere: Not Found"})


async def test_health_and_page(url: str, learner: Learner, session: aiohttp.ClientSession) -> None:
    for alive, code in ((True, 200), (False, 503)):
        learner.alive = alive
        async with session.get(f"{url}/health") as response:
            assert response.status == code
    async with session.get(url) as response:
        assert "Teach the model" in await response.text()


async def test_one_too_many_is_told_and_who_goes_away_makes_room(
    url: str, learner: Learner, session: aiohttp.ClientSession
) -> None:
    question = {"question": "Silence"}
    async with session.post(f"{url}/ask", json=question) as first, session.post(f"{url}/ask", json=question) as second:
        for response in (first, second):
            stream = events(response)
            assert [await anext(stream), await anext(stream)] == [
                ("begin", {"answer_id": "silent", "policy_version": 3}),
                ("text", {"text": "Well"}),
            ]
        async with session.post(f"{url}/ask", json=question) as third:
            assert (third.status, third.headers["Retry-After"]) == (503, "1")
            assert "2 questions are being answered already" in (await third.json())["error"]
        first.close()
        await asyncio.wait_for(learner.silent[0].let_go.wait(), 10)
        async with session.post(f"{url}/ask", json=question) as third:
            assert (await anext(events(third)))[0] == "begin"
            third.close()
        second.close()
    for silent in learner.silent:
        await asyncio.wait_for(silent.let_go.wait(), 10)


async def test_an_answer_takes_each_kind_of_feedback_once(
    parts: Any, url: str, learner: Learner, session: aiohttp.ClientSession
) -> None:
    answer = learner.begin("Who are you?")
    answer.rollout.sampled(loops_sdk.SampledSequence([5, 6], [-0.5, -1.0], "stop"))
    learner.feedback.remember(answer)
    for given in ({"thumb": "down"}, {"correction": "Nobody."}):
        for code in (202, 400):
            async with session.post(f"{url}/feedback", json={"answer_id": answer.id, **given}) as response:
                assert response.status == code
    thumb, correction = learner.feedback.pending
    assert thumb.loss_fn == "ppo"
    assert thumb.datum.loss_fn_inputs["advantages"].tolist()[-2:] == [-1.0, -1.0]
    assert correction.loss_fn == "cross_entropy"
    too_long = {"answer_id": answer.id, "correction": "7" * 1999}
    async with session.post(f"{url}/feedback", json=too_long) as response:
        assert response.status == 400


async def test_more_feedback_than_is_kept_is_refused(
    parts: Any, url: str, learner: Learner, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts.feedback, "MOST_PENDING", 0)
    async with session.post(f"{url}/feedback", json={"answer_id": "any", "thumb": "up"}) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "10")


def test_answers_and_lessons_are_not_remembered_for_ever(
    parts: Any, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts.feedback, "REMEMBERED", 2)
    answers = [learner.begin("Hello!") for _ in range(3)]
    for answer in answers:
        learner.feedback.remember(answer)
    learner.feedback.correct(answers[1].id, "Good day.")
    with pytest.raises(loops_sdk.InvalidInputError, match="none of the last 2"):
        learner.feedback.correct(answers[0].id, "Good day.")
    new, old = learner.feedback.batch(8)
    assert (len(new), old) == (1, [])
    learner.feedback.learned(new)
    assert learner.feedback.batch(8) == ([], new)


class Training:
    """A trainer that accepts a pass, and whose optimizer step fails the first time."""

    def __init__(self) -> None:
        self.steps = 0
        self.published: list[str] = []
        self.failing = asyncio.Event()

    def get_info(self) -> Any:
        return loops_sdk.GetInfoResponse("loops/tiny", 4, 1024)

    async def forward_backward_async(self, data: Any, loss_fn: str = "cross_entropy") -> Any:
        half = [{"logprobs": loops_sdk.TensorData([-0.1], "float32")} for _ in data]
        return _done(loops_sdk.ForwardBackwardOutput(0.1, {}, half))

    async def optim_step_async(self, adam: Any) -> Any:
        if not self.failing.is_set():
            self.failing.set()
            raise loops_sdk.ServerFailureError("the trainer is on fire")
        self.steps += 1
        return _done(loops_sdk.OptimStepResponse({"step": float(self.steps)}))

    async def save_weights_for_sampler_async(self, name: str, ttl_seconds: int) -> Any:
        self.published.append(name)
        return _done(loops_sdk.SaveWeightsResponse(f"bt://loops:r/sampler_weights/{name}", policy_version=self.steps))

    async def save_state_async(self, name: str) -> Any:
        return _done(loops_sdk.SaveWeightsResponse(f"bt://loops:r/weights/{name}"))

    async def create_sampling_client_async(self, path: str) -> Any:
        return Sampler(self.steps)


@attrs.frozen
class Sampler:
    """It answers in one token."""

    version: int

    async def sample_async(self, prompt: Any, **_: Any) -> Any:
        return loops_sdk.SampleResult([loops_sdk.SampledSequence([70], [-1.0], "stop")], self.version)


def _done(value: Any) -> asyncio.Future[Any]:
    future = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


async def _until(reached: Callable[[], bool]) -> None:
    for _ in range(1000):
        if reached():
            return
        await asyncio.sleep(0.005)  # a status sends no event
    pytest.fail("it was not reached within five seconds")


async def test_training_that_fails_leaves_the_old_policy_and_is_tried_again(
    parts: Any, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    import learning

    monkeypatch.setattr(learning, "RETRY", 0.2)
    training = Training()
    async with learning.Learner(training, learner._renderer, steps=4, learning_rate=1e-3) as real:
        old = real.policy
        answer = real.begin("Who are you?")
        assert [piece async for piece in answer.pieces()] == [answer.text]
        real.feedback.remember(answer)
        real.feedback.correct(answer.id, "Nobody.")
        real.wake()
        await asyncio.wait_for(training.failing.wait(), 10)
        await _until(lambda: bool(real.status()["trouble"]))
        assert "the trainer is on fire" in real.status()["trouble"]
        assert real.policy is old
        assert real.status()["pending"] == 1
        await _until(lambda: not real.status()["trouble"])
        assert real.policy.version == 2
        assert real.status()["pending"] == 0
        assert real.alive
    assert training.published == ["web-1", "web-2"]
    assert not real.alive


def test_what_is_not_installed_is_named() -> None:
    program = "import runpy, sys; sys.modules['uvicorn'] = None; runpy.run_path(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", program, FOLDER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "pip install 'loops-sdk[examples]'" in done.stderr
