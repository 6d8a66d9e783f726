"""Tokens and log-probabilities from scores: what may be drawn, how often, and that rows do not feel each other."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loops_sdk.local.engine.torch_engine.sampling import Stream, sample
from loops_sdk.types import SamplingParams

PROBABILITIES = [0.4, 0.05, 0.3, 0.2, 0.05]
SCORES = torch.tensor([PROBABILITIES]).log() + 3.0


def draw(params: SamplingParams, count: int, scores: torch.Tensor = SCORES) -> list[int]:
    rows = [(params, Stream(7, index)) for index in range(count)]
    return [choice.token for choice in sample(scores.expand(count, -1).contiguous(), rows)]


def test_greedy_takes_the_most_probable_and_reports_its_raw_logprob() -> None:
    (choice,) = sample(SCORES, [(SamplingParams(temperature=0), Stream(None, 0))])
    assert choice.token == 0
    assert choice.logprob == pytest.approx(math.log(0.4))


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        (SamplingParams(), {0, 1, 2, 3, 4}),
        (SamplingParams(top_k=1), {0}),
        (SamplingParams(top_k=2), {0, 2}),
        (SamplingParams(top_p=0.39), {0}),
        (SamplingParams(top_p=0.6), {0, 2}),
        (SamplingParams(top_p=0.85), {0, 2, 3}),
        (SamplingParams(top_p=0.5, top_k=2), {0}),
        (SamplingParams(temperature=1e-30), {0}),
    ],
)
def test_what_may_be_drawn(params: SamplingParams, allowed: set[int]) -> None:
    assert set(draw(params, 400)) == allowed


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("top_p", [1.0, 0.95])
def test_frequencies(temperature: float, top_p: float) -> None:
    count = 4_000
    drawn = Counter(draw(SamplingParams(temperature=temperature, top_p=top_p), count))
    tempered = [p ** (1 / temperature) for p in PROBABILITIES]
    kept = {token: weight for token, weight in enumerate(tempered) if token in drawn}
    for token, weight in kept.items():
        assert drawn[token] / count == pytest.approx(weight / sum(kept.values()), abs=0.03)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from([(0.0, 1.0, -1), (1.0, 1.0, -1), (0.7, 0.9, -1), (1.3, 1.0, 3)]), min_size=1, max_size=6)
)
def test_rows_do_not_feel_each_other(kinds: list[tuple[float, float, int]]) -> None:
    scores = torch.randn(len(kinds), 40, generator=torch.Generator().manual_seed(1))
    params = [SamplingParams(temperature=t, top_p=p, top_k=k) for t, p, k in kinds]
    together = sample(scores, [(p, Stream(5, i)) for i, p in enumerate(params)])
    alone = [sample(scores[i : i + 1], [(p, Stream(5, i))])[0] for i, p in enumerate(params)]
    assert [choice.token for choice in together] == [choice.token for choice in alone]


def test_streams_repeat_by_seed_and_index() -> None:
    def numbers(seed: int | None, index: int) -> list[float]:
        stream = Stream(seed, index)
        return [stream.draw() for _ in range(3)]

    assert numbers(3, 0) == numbers(3, 0)
    assert len({tuple(numbers(*key)) for key in [(3, 0), (3, 1), (4, 0), (None, 0), (None, 0)]}) == 5


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    class Edge(Stream):
        def __init__(self, value: float) -> None:
            self.value = value

        def draw(self) -> float:
            return self.value

    scores = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    for value, token in ((0.0, 1), (0.5, 3), (1.0 - 2**-53, 3)):
        assert sample(scores, [(SamplingParams(), Edge(value))])[0].token == token


def test_scores_that_are_not_finite_show() -> None:
    (choice,) = sample(torch.full((1, 4), math.nan), [(SamplingParams(), Stream(0, 0))])
    assert math.isnan(choice.logprob)
