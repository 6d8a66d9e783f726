"""The web service under load: answers stream, feedback trains, twenty swaps drop nothing, and it ends as it should."""

from __future__ import annotations

import asyncio
import difflib
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import psutil
import pytest

from .conftest import Example
from .webservice import WebService, events, webservice

FERRY, EVERY_HOUR = "When does the ferry leave?", "The ferry leaves every hour."


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as session:
        yield session


def said(answer: list[tuple[str, dict[str, Any]]]) -> str:
    """What an answer says, which is whole and of one policy from its first word to its last."""
    (first, begun), *pieces, (last, ended) = answer
    assert (first, last) == ("begin", "end"), answer
    assert {kind for kind, _ in pieces} == {"text"}
    assert ended["policy_versions"] == [begun["policy_version"]]
    assert ended["answer_id"] == begun["answer_id"]
    return "".join(data["text"] for _, data in pieces)


def likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


async def test_it_streams_learns_and_goes_on_where_it_was_interrupted(
    example: Example, session: aiohttp.ClientSession
) -> None:
    with webservice(example) as service:
        story = await service.ask(session, "Tell me a story.")
        assert len(story) > 5
        assert len(said(story)) > 40
        before = await service.ask(session, FERRY)
        await _teach(service, session, before, correction=EVERY_HOUR)
        status = await service.learned(session, above=0)
        losses = [entry["loss"] for entry in status["losses"]]
        assert losses[-1] < 0.2 * losses[0]
        assert status["counts"] == {"answers": 2, "thumbs": 0, "corrections": 1}
        after = await service.ask(session, FERRY)
        assert after[0][1]["policy_version"] == status["policy_version"]
        assert likeness(said(after), EVERY_HOUR) > likeness(said(before), EVERY_HOUR)
        await _teach(service, session, story, thumb="up")
        rated = await service.learned(session, above=status["policy_version"])
        assert rated["trouble"] == ""
        taught = said(await service.ask(session, FERRY))
        output = await _interrupted(service, session, story)
    path = output.split("--resume ")[1].strip()
    with webservice(example, "--resume", path) as service:
        assert (await service.status(session))["policy_version"] > rated["policy_version"]
        assert likeness(said(await service.ask(session, FERRY)), taught) > 0.7


async def _teach(
    service: WebService, session: aiohttp.ClientSession, answer: list[tuple[str, dict[str, Any]]], **given: str
) -> None:
    code, told = await service.post(session, "/feedback", answer_id=answer[0][1]["answer_id"], **given)
    assert code == 202, told


async def _interrupted(
    service: WebService, session: aiohttp.ClientSession, known: list[tuple[str, dict[str, Any]]]
) -> str:
    """What it says at its end, which Ctrl-C brings about while it trains and answers. The answer is finished, and
    nothing is left running."""
    processes = psutil.Process(service.process.pid).children(recursive=True)
    assert processes
    await _teach(service, session, known, correction="Once there was a ferry.")
    await service.until(session, lambda status: status["phase"].startswith("training"))
    async with session.post(f"{service.url}/ask", json={"question": "Tell me a story."}) as response:
        stream = events(response)
        begun = [await anext(stream)]
        service.process.send_signal(signal.SIGINT)
        assert len(said(begun + [event async for event in stream])) > 10
    output, _ = await asyncio.to_thread(service.process.communicate, timeout=60)
    assert service.process.returncode == 0, output
    assert not psutil.wait_procs(processes, timeout=5)[1]
    return output


async def test_no_answer_is_dropped_while_twenty_policies_take_over(
    example: Example, session: aiohttp.ClientSession
) -> None:
    """Six people ask without a pause; each policy that takes over does so while most of them are being answered."""
    with webservice(example, "--steps", 2, "--learning-rate", 1e-4, "--rank", 4) as service:
        swaps = asyncio.create_task(_swap(service, session, 20))
        seen = await asyncio.gather(*[_ask_until(swaps, service, session) for _ in range(6)])
        assert await swaps == 20
        for versions in seen:
            assert versions == sorted(versions)
        assert len(set().union(*seen)) > 15  # answers came from most of the policies
        status = await service.status(session)
        assert status["policy_version"] == 40
        assert status["counts"]["answers"] == sum(map(len, seen)) + 20
        assert status["trouble"] == ""


async def _swap(service: WebService, session: aiohttp.ClientSession, times: int) -> int:
    version = 0
    for count in range(times):
        answer = await service.ask(session, "Hello!")
        await _teach(service, session, answer, **({"correction": EVERY_HOUR} if count % 2 else {"thumb": "up"}))
        version = (await service.learned(session, above=version))["policy_version"]
    return times


async def _ask_until(swaps: asyncio.Task[int], service: WebService, session: aiohttp.ClientSession) -> list[int]:
    """The versions that answered, in order; `said` sees to it that each answer was whole."""
    versions: list[int] = []
    while not swaps.done():
        answer = await service.ask(session, "Tell me a story.")
        assert said(answer)
        versions.append(answer[0][1]["policy_version"])
    return versions


def test_it_says_why_it_does_not_start(example: Example) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in example("webservice", "--port", port, fails=True)
    with example.started("webservice", "--port", 0, LOOPS_BASE_MODEL="no/such") as process:
        processes = psutil.Process(process.pid).children(recursive=True)
        output, _ = process.communicate(timeout=60)
        assert process.returncode != 0
        (told,) = [line for line in output.splitlines() if "BadRequestError" in line]
        assert "no/such" in told
        assert "loops/tiny" in told
        assert not psutil.wait_procs(processes, timeout=5)[1]
