"""`loops examples run sft` in small: both losses fall, and the checkpoint that it names is the one with the lowest."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from .conftest import Example, mean, numbers


def test_losses_fall_and_the_best_checkpoint_is_named(example: Example) -> None:
    said = example("sft", "--steps", 24, "--eval-every", 6, "--batch-size", 12)
    losses, held_out = numbers(said, "loss"), numbers(said, "held_out")
    assert len(held_out) == 5  # before, and at every sixth step
    assert mean(losses[21:24]) < 0.25 * losses[0]
    assert min(held_out) < 0.25 * held_out[0]
    saved = dict(re.findall(r"held_out (\S+)  saved (bt://loops:\S+)", said))
    told = re.search(r"held-out loss fell from (\S+) to (\S+); best checkpoint: (\S+)", said)
    assert told is not None
    assert told[1] == f"{held_out[0]:.3f}"
    assert told[2] == f"{min(held_out[1:]):.3f}"
    assert told[3] == saved[told[2]]
    assert len(re.findall(r"A: Ahoy! .*Fair winds!", said)) >= 3  # a voice that it did not have


def test_files_of_ones_own_and_a_last_evaluation_at_the_last_step(example: Example) -> None:
    turns = [("user", "Ping?"), ("assistant", "Pong."), ("user", "Again?"), ("assistant", "Pong, I said.")]
    line = json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})
    (example.cwd / "mine.jsonl").write_text(f"{line}\n\n{line}\n", encoding="utf-8-sig")  # as Windows writes it
    said = example("sft", "--train", "mine.jsonl", "--held-out", "mine.jsonl", "--steps", 3, "--eval-every", 2)
    assert ": 2 conversations, 2 held out" in said
    assert re.findall(r"saved bt://loops:\w+/weights/(\S+)", said) == ["step-2", "step-3"]
    assert said.count("Q: Again?") == 2


HELLO, ANSWER = {"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good day!"}
GOOD = {"messages": [HELLO, ANSWER]}


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ('{"messages": [{"role": ', 'expected {"messages": [...]}; JSONDecodeError'),
        ({"prompt": "Hello!"}, "expected {\"messages\": [...]}; KeyError: 'messages'"),
        ({"messages": [HELLO]}, "messages: there is no assistant turn to learn"),
        ({"messages": [HELLO, {**ANSWER, "content": "word " * 2000}]}, "tokens, but this trainer takes 1024"),
    ],
    ids=["a broken line", "another field", "nobody answers", "too long"],
)
def test_a_line_that_cannot_be_learned_is_named(example: Example, second: Any, told: str) -> None:
    lines = [json.dumps(GOOD), second if isinstance(second, str) else json.dumps(second)]
    (example.cwd / "mine.jsonl").write_text("\n".join(lines))
    said = example("sft", "--train", "mine.jsonl", fails=True)
    assert said.splitlines()[-1].startswith("mine.jsonl, line 2: ")
    assert told in said
    assert "Traceback" not in said


def test_a_file_without_conversations(example: Example) -> None:
    (example.cwd / "empty.jsonl").write_text("\n")
    assert "empty.jsonl: there are no conversations in it" in example("sft", "--train", "empty.jsonl", fails=True)
