"""`loops examples run distillation` in small: the student approaches the teacher, and with it the right answers."""

from __future__ import annotations

import re

import pytest

from .conftest import Example, mean, numbers


def test_the_student_approaches_the_teacher_and_its_answers(example: Example) -> None:
    said = example("distillation", "--steps", 18)
    kl, right = numbers(said, "kl"), numbers(said, "right")
    best, right = right[0], right[1:]
    assert len(kl) == len(right) == 18
    assert mean(kl[-3:]) < 0.5 * mean(kl[:3])
    assert mean(right[-3:]) > mean(right[:3]) + 0.4 * (best - mean(right[:3]))
    told = re.search(r"fell from (\S+) to (\S+) nats per token; right answers rose from (\d+)% to (\d+)%", said)
    assert told is not None
    assert [float(one) for one in told.groups()] == pytest.approx(
        [mean(kl[:3]), mean(kl[-3:]), 100 * mean(right[:3]), 100 * mean(right[-3:])], abs=1.5
    )


def test_a_teacher_may_be_a_checkpoint_or_a_base_model(example: Example) -> None:
    """The base model as teacher is what the student begins with: they agree, to the rounding of both samplers."""
    once = example("distillation", "--steps", 1, "--questions", 4, "--teacher-steps", 2)
    example.serving.end_runs()  # a program needs three or four of the deployment's eight processes
    (path,) = re.findall(r"teacher saved: --teacher (\S+)", once)
    again = example("distillation", "--steps", 1, "--questions", 4, "--teacher", path)
    assert "teacher, step" not in again
    assert abs(numbers(again, "kl")[0]) > 0.02
    example.serving.end_runs()
    same = example("distillation", "--steps", 1, "--questions", 4, "--teacher", "loops/tiny")
    assert abs(numbers(same, "kl")[0]) < 0.005
