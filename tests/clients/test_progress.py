"""What clients wait for is told and shown: from the session to the download, in one line each, and gone at the end."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import loops_sdk
from loops_sdk import AdamParams, Datum, SamplingParams, ServiceClient
from loops_sdk.errors import InvalidInputError, LoopsError
from loops_sdk.instrumentation import Event, WaitAdvanced, WaitFinished, WaitStarted
from loops_sdk.instrumentation.progress import display, plain
from loops_sdk.instrumentation.progress.waits import Line

MODEL = "acme/model"
SOON = 30.0


def waited_for(heard: Sequence[Event]) -> list[str]:
    return [event.subject for event in heard if isinstance(event, WaitStarted)]


def states(heard: Sequence[Event], operation: str) -> list[str | None]:
    return [event.state for event in heard if isinstance(event, WaitAdvanced) and event.operation == operation]


async def test_every_wait_is_told_and_ends(service: Any) -> None:
    heard: list[Event] = []
    service.sampler_ids = {"model_id": "m1", "deployment_id": "d1"}
    service.deployment_status = ["DEPLOYING", "LOADING_MODEL", "ACTIVE"]
    service.publish()
    async with ServiceClient(base_url=service.control, observers=[heard.append], progress=False) as client:
        training = await client.create_lora_training_client_async(MODEL)
        await (await training.optim_step_async(AdamParams()))
        service.publish(1)
        await (await training.save_weights_and_get_sampling_client_async("a"))
    assert waited_for(heard) == [
        f"session at {service.control}",
        "new trainer for acme/model",
        "trainer of run r1",
        "new sampler for r1",
        "sampler sam1 of run r1",
        "policy version 1 at the sampler",
    ]
    assert states(heard, "sampler_ready") == ["DEPLOYING", "LOADING_MODEL", "ACTIVE"]
    begun = [event.wait for event in heard if isinstance(event, WaitStarted)]
    ended = [event.wait for event in heard if isinstance(event, WaitFinished) and event.error is None]
    assert begun == ended


async def test_a_wait_in_vain_ends_too(service: Any, reply: Any) -> None:
    async def starting(_request: Any) -> Any:
        return reply(503, {"detail": "the trainer is loading"})

    heard: list[Event] = []
    service.on["GET /health"] = starting
    async with ServiceClient(base_url=service.control, observers=[heard.append]) as client:
        with pytest.raises(LoopsError):
            await client.create_lora_training_client_async(MODEL, ready_timeout=0.05)
    assert states(heard, "trainer_ready") == ["the trainer is loading"]
    (ended,) = [one for one in heard if isinstance(one, WaitFinished) and one.operation == "trainer_ready"]
    assert (ended.error_type, ended.run_id) == ("RequestTimeoutError", "r1")


# ------------------------------------------------------------------ shown


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> queue.SimpleQueue[list[Line]]:
    """What is drawn, at once and wherever the tests run."""
    drawn: queue.SimpleQueue[list[Line]] = queue.SimpleQueue()

    class Kept(plain.Plain):
        pause = 0.005

        def draw(self, lines: Sequence[Line]) -> None:
            super().draw(lines)
            drawn.put(list(lines))

    monkeypatch.setattr("loops_sdk.instrumentation.progress.plain.Plain", Kept)
    monkeypatch.setattr(display, "DELAY", 0.0)
    for name in ("CI", "LOOPS_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    return drawn


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [one for one in threading.enumerate() if one.name == "loops_sdk progress"]


async def seen(lines: queue.SimpleQueue[list[Line]], wanted: str) -> Line:
    """The line of a subject, once it is drawn."""
    while True:
        for line in await asyncio.to_thread(lines.get, True, SOON):
            if line.subject == wanted:
                return line


@pytest.mark.parametrize("way", ["keyword", "variable", "local"])
async def test_a_slow_trainer_is_shown_while_it_comes_up(
    service: Any,
    lines: queue.SimpleQueue[list[Line]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    asked, up = asyncio.Event(), asyncio.Event()

    async def slow(_request: Any) -> None:
        asked.set()
        await up.wait()

    service.on["GET /health"] = slow
    progress = None if way == "variable" else True
    if way == "variable":
        monkeypatch.setenv("LOOPS_PROGRESS", "1")
    if way == "local":
        client = ServiceClient.local(trainer_url=service.trainer, progress=progress)
    else:
        client = ServiceClient(base_url=service.control, progress=progress)
    async with client:
        creating = asyncio.create_task(client.create_lora_training_client_async(MODEL))
        subject = f"trainer at {service.trainer}" if way == "local" else "trainer of run r1"
        await seen(lines, subject)
        up.set()
        await creating
    assert f"waiting for {subject}, 0 s\n" in capsys.readouterr().err


async def test_calls_and_samples_are_one_line_each(service: Any, lines: queue.SimpleQueue[list[Line]]) -> None:
    held = asyncio.Event()

    async def slow(_request: Any) -> None:
        await held.wait()

    service.publish()
    service.on |= {"GET /operations/op-0": slow, "GET /operations/op-1": slow, "POST /v1/completions": slow}
    local = ServiceClient.local(trainer_url=service.trainer, sampler_url=service.sampler, progress=True)
    async with local as client:
        training = await client.create_lora_training_client_async(MODEL)
        sampling = await client.create_sampling_client_async(MODEL)
        datum = Datum([1, 2], {"target_tokens": [2, 3]})
        passes = [await training.forward_backward_async([datum]) for _ in range(2)]
        params = SamplingParams(max_tokens=2)
        samples = [asyncio.create_task(sampling.sample_async([1], 1, params)) for _ in range(20)]
        while (await seen(lines, "forward_backward")).state != "2 waiting":
            pass
        while (await seen(lines, "sample")).state != "20 waiting":
            pass
        samples.pop().cancel()
        while (line := await seen(lines, "sample")).state != "19 waiting":
            pass
        assert (line.done, line.total) == (1, 20)
        held.set()
        await asyncio.gather(*passes, *samples)


async def test_two_services_draw_on_one_display(service: Any, lines: queue.SimpleQueue[list[Line]]) -> None:
    up = asyncio.Event()

    async def slow(_request: Any) -> None:
        await up.wait()

    service.on["GET /health"] = slow
    async with (
        ServiceClient(base_url=service.control, progress=True) as first,
        ServiceClient(base_url=service.control, progress=True) as second,
    ):
        tasks = [asyncio.create_task(one.create_lora_training_client_async(MODEL)) for one in (first, second)]
        while {line.subject for line in await asyncio.to_thread(lines.get, True, SOON)} != {
            "trainer of run r1",
            "trainer of run r2",
        }:
            pass
        assert len([one for one in threading.enumerate() if one.name == "loops_sdk progress"]) == 1
        up.set()
        await asyncio.gather(*tasks)


async def test_a_client_that_is_closed_in_the_middle_takes_its_lines_along(
    service: Any, lines: queue.SimpleQueue[list[Line]]
) -> None:
    async def never(_request: Any) -> None:
        await asyncio.Event().wait()

    service.on["GET /health"] = never
    client = ServiceClient(base_url=service.control, progress=True)
    creating = asyncio.create_task(client.create_lora_training_client_async(MODEL))
    await seen(lines, "trainer of run r1")
    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)
    await client.aclose()


@pytest.mark.parametrize("progress", ["yes", 1, 0])
async def test_what_is_no_answer_to_whether(progress: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^progress: expected True, False or None, got "):
        ServiceClient(progress=progress)
    with pytest.raises(InvalidInputError, match=r"^progress: expected True, False or None, got "):
        ServiceClient.local(trainer_url="http://127.0.0.1:9", progress=progress)


# ------------------------------------------------------------------ programs

SOURCE = str(Path(loops_sdk.__file__).parents[1])


def test_rich_is_imported_when_there_is_something_to_draw() -> None:
    program = (
        "import sys, loops_sdk\n"
        "client = loops_sdk.ServiceClient(api_key='a-key', base_url='http://127.0.0.1:9', progress=True)\n"
        "print('rich' in sys.modules)\n"
    )
    env = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


PROGRAM = """
import asyncio, sys
from loops_sdk import ServiceClient

async def main():
    async with ServiceClient(base_url=sys.argv[1]) as client:
        await client.create_lora_training_client_async("acme/model")

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
async def test_ctrl_c_on_a_terminal_leaves_it_clean(service: Any) -> None:
    async def never(_request: Any) -> None:
        await asyncio.Event().wait()

    service.on["GET /health"] = never
    ours, theirs = os.openpty()
    env = {**os.environ, "PYTHONPATH": SOURCE, "CI": "", "LOOPS_PROGRESS": "", "TERM": "xterm", "COLUMNS": "80"}
    env["PYTHON_COLORS"] = "0"  # tracebacks have them from Python 3.13 on
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, service.control, env=env, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        shown = b""
        async with asyncio.timeout(SOON):
            while b"trainer of run r1" not in shown:
                shown += await asyncio.to_thread(os.read, ours, 65536)
        process.send_signal(signal.SIGINT)
        rest = b""
        async with asyncio.timeout(SOON):
            while b"KeyboardInterrupt\r\n" not in rest:
                rest += await asyncio.to_thread(os.read, ours, 65536)
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
    assert b"\x1b[?25l" not in shown + rest  # the cursor was never away
    last = rest.rindex(b"\x1b[2K")
    assert b"trainer of run r1" not in rest[last:]
