"""The example `grpo_async`: what it trains on is never older than the bound, and an interrupted run goes on."""

from __future__ import annotations

import re
import signal

import pytest

from .conftest import Example, mean, numbers


def test_the_reward_rises_and_nothing_is_older_than_the_bound(example: Example) -> None:
    said = example("grpo_async", "--steps", 9)
    rewards = numbers(said, "reward")
    assert len(rewards) == 9
    assert mean(rewards[-2:]) > mean(rewards[:2]) + 0.1
    assert max(numbers(said, "staleness")) <= 1
    assert "done: 9 steps" in said


def test_what_is_too_old_is_dropped(example: Example) -> None:
    said = example("grpo_async", "--steps", 4, "--max-staleness", 0)
    assert set(numbers(said, "staleness")) == {0.0}
    assert sum(numbers(said, "dropped")) > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_where_it_was(example: Example, number: signal.Signals) -> None:
    with example.started("grpo_async", "--steps", 1000) as process:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("step   2"):
            assert line, f"grpo_async ended with {process.wait()}"
        process.send_signal(number)
        said, _ = process.communicate(timeout=120)
    (done,) = numbers(said, "interrupted after step")
    assert done >= 2
    (path,) = re.findall(r"--resume (\S+)", said)
    went_on = example("grpo_async", "--resume", path, "--steps", int(done) + 2)
    assert numbers(went_on, "step") == [done + 1, done + 2]
