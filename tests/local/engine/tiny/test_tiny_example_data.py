"""The shipped example data: well-formed conversations, and nothing held out that training has seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loops_sdk.local.engine.tiny.wording import Message

DATA = Path(__file__).parents[4] / "loops_sdk" / "examples" / "data"


def conversations(part: str) -> list[list[Message]]:
    lines = (DATA / f"pebble_island.{part}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


@pytest.mark.parametrize(("part", "count"), [("train", 287), ("held_out", 82)])
def test_every_line_is_one_question_and_one_answer(part: str, count: int) -> None:
    chats = conversations(part)
    assert len(chats) == count
    for chat in chats:
        assert [turn["role"] for turn in chat] == ["user", "assistant"]
        assert all(turn.keys() == {"role", "content"} and turn["content"].strip() for turn in chat)
        assert chat[1]["content"].startswith("Ahoy! ")
        assert chat[1]["content"].endswith(" Fair winds!")


def test_no_held_out_question_is_in_training() -> None:
    trained, held = ({chat[0]["content"] for chat in conversations(part)} for part in ("train", "held_out"))
    assert len(trained) == 287
    assert len(held) == 82
    assert not trained & held


def test_every_held_out_answer_can_be_known_from_training() -> None:
    trained, held = ({chat[1]["content"] for chat in conversations(part)} for part in ("train", "held_out"))
    assert held <= trained
