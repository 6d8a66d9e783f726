"""Who takes over when a process dies, how often, after what pauses; and ports that stay."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from loops_sdk.local.control_plane import Full
from loops_sdk.local.stack import supervised
from loops_sdk.local.stack.ports import Ports
from loops_sdk.local.stack.process import Process
from loops_sdk.local.stack.supervised import Supervised


class Child:
    """What `Supervised` sees of a process that dies when the test says so."""

    name = "child"

    def __init__(self, *, serves_for: float | None = 100.0, refused: bool = False) -> None:
        self.served_for, self.refused = serves_for, refused
        self.state = "starting" if serves_for is None else "ready"
        self.ended = False
        self.idle = 0.0
        self.assigned: list[tuple[str, int]] = []
        self._died = asyncio.Event()

    def assign(self, serve: str, listener: socket.socket) -> None:
        self.assigned.append((serve, listener.getsockname()[1]))

    def die(self) -> None:
        self.ended, self.state = True, "failed"
        self._died.set()

    async def gone(self) -> None:
        await self._died.wait()

    async def stop(self) -> None:
        self.die()


Make = Callable[..., tuple[Supervised, list[Child]]]


@pytest.fixture
async def make(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """A supervised child and those that will take over, the first of which serves."""
    made: list[Supervised] = []
    monkeypatch.setattr(supervised, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(supervised, "_LONGEST_PAUSE", 0.001)

    def one(*children: Child | Exception, replaced: bool = True) -> tuple[Supervised, list[Child]]:
        first, *others = children
        assert isinstance(first, Child)
        waiting = list(others)

        async def successor() -> Process:
            following = waiting.pop(0)
            if isinstance(following, Exception):
                raise following
            return cast("Process", following)

        listener = socket.create_server(("127.0.0.1", 0))
        watched = Supervised(cast("Process", first), "run7", listener, successor if replaced else None)
        made.append(watched)
        return watched, [one for one in children if isinstance(one, Child)]

    yield one
    for watched in made:
        await watched.stop()


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0.001)


async def test_another_one_takes_over_at_the_same_address(make: Make) -> None:
    watched, (first, second) = make(Child(), Child())
    first.die()
    assert watched.state == "starting"
    await turns()
    assert watched.state == "ready"
    assert first.assigned == second.assigned == [("run7", watched.port)]


async def test_five_that_never_become_ready_are_enough(make: Make) -> None:
    watched, children = make(Child(), *(Child(serves_for=None) for _ in range(6)))
    for child in children[:6]:
        assert watched.state in ("ready", "starting")
        child.die()
        await turns()
    assert watched.state == "failed"
    assert not children[6].assigned
    with pytest.raises(ConnectionRefusedError):  # whoever waits is told, instead of waiting for ever
        socket.create_connection(("127.0.0.1", watched.port), timeout=1)


async def test_one_that_was_ready_in_between_starts_the_count_again(make: Make) -> None:
    never = [Child(serves_for=None) for _ in range(8)]
    watched, children = make(Child(), *never[:4], Child(serves_for=0.0), *never[4:], Child())
    for child in children[:-1]:
        child.die()
        await turns()
    assert watched.state == "ready"


async def test_what_said_itself_that_it_cannot_serve_is_not_tried_again(make: Make) -> None:
    watched, (first, second) = make(Child(refused=True), Child())
    first.die()
    await turns()
    assert (watched.state, second.assigned) == ("failed", [])


async def test_without_a_successor_death_is_the_end(make: Make) -> None:
    watched, (first,) = make(Child(), replaced=False)
    first.die()
    await turns()
    assert watched.state == "failed"


async def test_a_process_that_cannot_be_started_counts_as_one_that_died(make: Make) -> None:
    watched, (first, last) = make(Child(), OSError("no more processes"), Full("full", status=409), Child())
    first.die()
    await turns()
    assert (watched.state, len(last.assigned)) == ("ready", 1)


async def test_pauses_grow_up_to_a_bound_and_service_ends_them(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    plain = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await plain(0)

    monkeypatch.setattr(supervised, "_FIRST_PAUSE", 0.25)
    monkeypatch.setattr(supervised, "_LONGEST_PAUSE", 5.0)
    _, children = make(Child(), *(Child(serves_for=0.1) for _ in range(7)), Child(serves_for=60.0), Child())
    monkeypatch.setattr(supervised.asyncio, "sleep", sleep)
    for child in children[:-1]:
        child.die()
        for _ in range(5):
            await plain(0)
    assert pauses == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 0.0]


async def test_stopping_ends_it_also_in_the_middle_of_a_replacement(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "_FIRST_PAUSE", 60.0)
    monkeypatch.setattr(supervised, "_LONGEST_PAUSE", 60.0)
    watched, (first, second, third) = make(Child(serves_for=0.0), Child(serves_for=0.0), Child())
    first.die()
    await turns(2)
    second.die()
    await turns(2)
    assert watched.state == "starting"
    await asyncio.wait_for(watched.stop(), 1)
    assert (watched.state, third.assigned) == ("stopped", [])


# ---------------------------------------------------------------- ports


async def test_ports_are_the_same_again(tmp_path: Path) -> None:
    record = tmp_path / "ports.json"
    first = Ports("127.0.0.1", record)
    listeners = {name: first.open(name) for name in ("run7", "smp7", "run8")}
    ports = {name: one.getsockname()[1] for name, one in listeners.items()}
    first.forget("run8")
    for one in listeners.values():
        one.close()
    again = Ports("127.0.0.1", record)
    assert set(again.recorded) == set()
    await again.reclaim()
    assert set(again.recorded) == {"run7", "smp7"}
    with socket.create_connection(("127.0.0.1", ports["run7"]), timeout=1):  # it listens before anybody serves
        pass
    with again.open("run7") as one:
        assert one.getsockname()[1] == ports["run7"]
    again.release()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports["smp7"]), timeout=1)


async def test_a_port_that_is_taken_is_waited_for_and_then_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = tmp_path / "ports.json"
    first = Ports("127.0.0.1", record)
    with first.open("run7") as taken:
        port = taken.getsockname()[1]
        waiting = Ports("127.0.0.1", record)
        asyncio.get_running_loop().call_later(0.05, taken.close)
        await waiting.reclaim()
    with waiting.open("run7") as mine:
        assert mine.getsockname()[1] == port
        monkeypatch.setattr("loops_sdk.local.stack.ports._PATIENCE", 0.0)
        hasty = Ports("127.0.0.1", record)
        await hasty.reclaim()
        with hasty.open("run7") as other:
            assert other.getsockname()[1] != port
    assert f"port {port} is taken" in caplog.text


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"run7": "x"}'])
async def test_a_record_that_says_nothing_is_left_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ports.json").write_bytes(content)
    ports = Ports("127.0.0.1", tmp_path / "ports.json")
    await ports.reclaim()
    assert not ports.recorded


def test_an_address_that_cannot_be_bound_is_named() -> None:
    from loops_sdk.errors import DeploymentFailedError

    with pytest.raises(DeploymentFailedError, match=r"cannot listen on 192\.0\.2\.1"):
        Ports("192.0.2.1", None).open("run7")
