"""Direct preference optimization: the margin rises, measured against a reference that stays what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .conftest import ISLAND, MODEL, PROGRAMS, Cookbook, column, mean, write_rows


def comparisons(start: int, stop: int) -> Iterator[Any]:
    """How the help desk answers, preferred to what the model says of itself."""
    for line in ISLAND.read_text().splitlines()[start:stop]:
        question, answer = json.loads(line)["messages"]
        dull = {"role": "assistant", "content": "I am sorry, I do not know."}
        yield {
            "comparison": {"prompt_conversation": [question], "completion_A": [answer], "completion_B": [dull]},
            "label": "A",
        }


def test_the_margin_rises(cookbook: Cookbook, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "train.jsonl", comparisons(0, 20))
    held_out = write_rows(tmp_path / "test.jsonl", comparisons(20, 24))
    cookbook.run(PROGRAMS / "dpo.py", model_name=MODEL, log_path=tmp_path / "log", data=data, held_out=held_out)
    margins = column(tmp_path / "log", "margin")
    assert len(margins) == 10
    assert abs(margins[0]) < 0.05  # the policy is the reference
    assert min(margins[2:]) > 1  # also after the steps that published what was learnt: 4 and 8
    assert mean(margins[-2:]) > mean(margins[1:3])
    assert column(tmp_path / "log", "accuracy")[-1] == 1
