"""A wait is told from its beginning to its end, however it ends."""

from __future__ import annotations

import asyncio

import pytest

from loops_sdk.instrumentation import Event, WaitAdvanced, WaitFinished, WaitStarted
from loops_sdk.instrumentation import waiting as module
from loops_sdk.instrumentation.waiting import waiting


def test_beginning_states_and_end_belong_together() -> None:
    heard: list[Event] = []
    with waiting(heard.append, "trainer_ready", "trainer of run r1", "r1") as wait:
        wait.state("DEPLOYING")
        wait.state("DEPLOYING")
        wait.state("RUNNING")
    with waiting(heard.append, "publish", "weights"):
        pass
    started, deploying, running, finished, other, _ = heard
    assert started == WaitStarted("trainer_ready", wait.number, "trainer of run r1", "r1")
    assert deploying == WaitAdvanced("trainer_ready", wait.number, "DEPLOYING", run_id="r1")
    assert running == WaitAdvanced("trainer_ready", wait.number, "RUNNING", run_id="r1")
    assert isinstance(finished, WaitFinished)
    assert (finished.wait, finished.error, finished.error_type, finished.run_id) == (wait.number, None, None, "r1")
    assert isinstance(other, WaitStarted)
    assert other.wait != wait.number


@pytest.mark.parametrize("error", [ValueError("no such thing"), asyncio.CancelledError(), KeyboardInterrupt()])
def test_a_wait_in_vain_says_why(error: BaseException) -> None:
    heard: list[Event] = []
    with pytest.raises(type(error)), waiting(heard.append, "publish", "weights"):
        raise error
    finished = heard[-1]
    assert isinstance(finished, WaitFinished)
    assert (finished.error, finished.error_type) == (str(error), type(error).__name__)
    assert finished.elapsed >= 0


def test_what_is_counted_is_told_now_and_then_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OFTEN", 3600.0)
    heard: list[Event] = []
    with waiting(heard.append, "download_checkpoint", "files of c1") as wait:
        for done in range(1001):
            wait.counted(done, 1000)
    told = [event for event in heard if isinstance(event, WaitAdvanced)]
    assert [(event.done, event.total, event.state) for event in told] == [(0, 1000, None), (1000, 1000, None)]
