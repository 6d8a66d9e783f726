"""Supervised training from a conversations file: the loss falls, and what was killed goes on where it was."""

from __future__ import annotations

from pathlib import Path

from .conftest import ISLAND, MODEL, PROGRAMS, Cookbook, column, rows


def test_a_killed_run_goes_on_at_its_checkpoint_and_the_loss_falls(cookbook: Cookbook, tmp_path: Path) -> None:
    options = {"model_name": MODEL, "log_path": tmp_path, "data": ISLAND}
    cookbook.run(PROGRAMS / "sft.py", fails=True, dies_at=12, **options)
    before = column(tmp_path, "train_mean_nll")
    saved = rows(tmp_path, "checkpoints.jsonl")[-1]
    assert (saved["name"], saved["batch"]) == ("000010", 10)
    assert saved["state_path"].startswith("tinker://")
    assert len(before) == 11
    cookbook.run(PROGRAMS / "sft.py", **options)
    after = column(tmp_path, "train_mean_nll")
    assert column(tmp_path, "step") == list(range(16))
    assert after[:10] == before[:10]
    assert max(after[10:]) < before[0] / 2
    assert column(tmp_path, "test/nll")[-1] < column(tmp_path, "test/nll")[0] / 2
    assert rows(tmp_path, "checkpoints.jsonl")[-1]["name"] == "final"
