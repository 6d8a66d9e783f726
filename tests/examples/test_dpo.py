"""`loops examples run dpo` in small: the margin rises, and with it the share of answers of the preferred kind."""

from __future__ import annotations

from .conftest import Example, mean, numbers


def test_the_margin_and_the_preferred_answers_rise(example: Example) -> None:
    said = example("dpo", "--steps", 14, "--batch-size", 12)
    margins, preferred, right = (numbers(said, name) for name in ("margin", "preferred", "right"))
    assert margins[0] == 0.0  # the reference is the model itself
    assert mean(margins[11:14]) > 1.0
    assert mean(numbers(said, "chosen")[11:14]) > 1.0  # not only by what the other answer loses
    assert preferred[1] > preferred[0] + 0.4
    assert right[1] > 0.1  # it has not forgotten how to add, which makes it 0
    assert f"preferred answers rose from {preferred[0]:.0%} to {preferred[1]:.0%}" in said
