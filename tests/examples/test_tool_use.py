"""`loops examples run tool_use` in small: the reward of episodes of several turns rises."""

from __future__ import annotations

import re

from .conftest import Example, mean, numbers


def test_the_reward_rises_and_is_earned_by_looking_up(example: Example) -> None:
    said = example("tool_use", "--steps", 10, "--group-size", 6)
    rewards = numbers(said, "reward")[:10]
    assert rewards[0] < 0.5
    assert mean(rewards[7:]) > rewards[0] + 0.25
    assert numbers(said, "called")[9] > 0.8
    assert re.search(
        r"How much is the (\w+)\? \| Look up \1\. \| The \1 costs (\d+) coins\. \| \2$", said, re.MULTILINE
    )
    told = re.search(r"reward rose from (\S+) to (\S+) \(mean of the last 3 steps\)", said)
    assert told is not None
    assert float(told[1]) == rewards[0]


def test_without_demonstrations_there_is_nothing_to_reinforce(example: Example) -> None:
    said = example("tool_use", "--steps", 2, "--group-size", 2, "--warm-up", 0)
    assert numbers(said, "reward")[:2] == [0.0, 0.0]
    assert numbers(said, "learns from") == [0.0, 0.0]
