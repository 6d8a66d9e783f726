"""Reinforcement learning with an environment of one's own: the reward rises, and every way of running works."""

from __future__ import annotations

from pathlib import Path

from .conftest import MODEL, PROGRAMS, Cookbook, column, mean

REWARD = "env/all/reward/total"


def test_the_reward_rises(cookbook: Cookbook, tmp_path: Path) -> None:
    cookbook.run(PROGRAMS / "rl.py", model_name=MODEL, log_path=tmp_path, steps=12)
    reward = column(tmp_path, REWARD)
    assert len(reward) == 12
    assert mean(reward[-3:]) > mean(reward[:2]) + 0.2


def test_sampling_runs_ahead_of_training(cookbook: Cookbook, tmp_path: Path) -> None:
    cookbook.run(PROGRAMS / "rl.py", model_name=MODEL, log_path=tmp_path, mode="async", loss_fn="ppo", steps=5)
    assert len(column(tmp_path, REWARD)) == 5
    assert max(column(tmp_path, "async/staleness_max")) >= 1


def test_minibatches_are_trained_on_as_they_come(cookbook: Cookbook, tmp_path: Path) -> None:
    cookbook.run(PROGRAMS / "rl.py", model_name=MODEL, log_path=tmp_path, mode="stream", loss_fn="ppo", steps=3)
    assert len(column(tmp_path, REWARD)) == 3


def test_another_process_samples(cookbook: Cookbook, tmp_path: Path) -> None:
    cookbook.run(PROGRAMS / "rl.py", model_name=MODEL, log_path=tmp_path, steps=2, elsewhere=True)
    assert len(column(tmp_path, REWARD)) == 2


def test_the_loss_that_nobody_else_knows_is_refused_by_name(cookbook: Cookbook, tmp_path: Path) -> None:
    said = cookbook.run(
        PROGRAMS / "rl.py",
        fails=True,
        model_name=MODEL,
        log_path=tmp_path,
        mode="async",
        loss_fn="stable_reinforce",
        steps=1,
    )
    assert "NotOfferedError" in said
    assert "stable_reinforce" in said
    assert "importance_sampling" in said
