"""The example `grpo`: the reward rises, and sampler and trainer agree."""

from __future__ import annotations

from .conftest import Example, mean, numbers


def test_the_reward_rises(example: Example) -> None:
    said = example("grpo", "--steps", 9)
    rewards = numbers(said, "reward")
    assert len(rewards) == 9
    assert mean(rewards[-2:]) > mean(rewards[:2]) + 0.15
    assert max(map(abs, numbers(said, "kl"))) < 0.01
    assert f"reward went from {rewards[0]:.3f} to {rewards[-1]:.3f} in 9 steps" in said


def test_groups_that_all_agree_teach_nothing(example: Example) -> None:
    """A group of one has nothing to be compared with, so there is no step."""
    said = example("grpo", "--steps", 2, "--group-size", 1)
    assert said.count("groups  0, nothing to learn from") == 2
    assert numbers(said, "loss") == []
