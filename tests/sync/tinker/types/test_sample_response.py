"""What sampling gives: arrays, and lists made of them when asked for."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_sdk_sync.tinker.types import SampledSequence, SampleResponse, TopkLogprobs
from loops_sdk_sync.tinker.types.topk_logprobs import MASK_LOGPROB, topk_to_lists

SEQUENCE = SampledSequence("stop", "s", np.array([1, 2], dtype=np.int32), np.array([-0.5, -0.25], dtype=np.float32))


def test_lists_are_made_of_arrays_once() -> None:
    assert (SEQUENCE.tokens, SEQUENCE.logprobs, SEQUENCE.topk_logprobs) == ([1, 2], [-0.5, -0.25], None)
    assert SEQUENCE.tokens is SEQUENCE.tokens


def test_lists_may_be_given_instead() -> None:
    sequence = SampledSequence("length", "s", _tokens_list=[3], _logprobs_list=[-1.0], _topk_logprobs_list=[None])
    assert (sequence.tokens, sequence.logprobs, sequence.topk_logprobs) == ([3], [-1.0], [None])
    response = SampleResponse([], _prompt_logprobs_list=[None], _topk_prompt_logprobs_list=[[(1, -1.0)]])
    assert (response.prompt_logprobs, response.topk_prompt_logprobs) == ([None], [[(1, -1.0)]])


def test_nothing_is_nothing() -> None:
    assert SampledSequence("length", "s").tokens == []
    assert SampledSequence("length", "s").logprobs is None
    assert SampleResponse([]).prompt_logprobs is None
    assert SampleResponse([]).topk_prompt_logprobs is None


def test_a_position_without_logprob_is_none() -> None:
    response = SampleResponse([SEQUENCE], np.array([np.nan, -0.5], dtype=np.float32))
    assert response.prompt_logprobs == [None, -0.5]
    assert repr(SampleResponse([])) == (
        "SampleResponse(sequences=[], target_prompt_logprobs=None, prompt_cache_hit_tokens=0, prompt_alt_tokens=None)"
    )


def test_they_are_dataclasses_that_copy_and_pickle() -> None:
    for twin in (copy.deepcopy(SEQUENCE), pickle.loads(pickle.dumps(SEQUENCE)), dataclasses.replace(SEQUENCE)):
        assert (twin.tokens, twin.logprobs, twin.sequence_id) == ([1, 2], [-0.5, -0.25], "s")
    assert dataclasses.asdict(SampleResponse([SEQUENCE]))["sequences"][0]["stop_reason"] == "stop"
    with pytest.raises(dataclasses.FrozenInstanceError):
        SEQUENCE.sequence_id = "t"  # type: ignore[misc]


ROW = st.lists(st.tuples(st.integers(1, 9), st.floats(-9, 0, width=32)), max_size=3)


@given(st.lists(ROW, min_size=1, max_size=5))
def test_the_most_probable_tokens_of_each_position(rows: list[list[tuple[int, float]]]) -> None:
    filled = [[*row, *[(0, MASK_LOGPROB)] * (3 - len(row))] for row in rows]
    tokens = np.array([[token for token, _ in row] for row in filled], dtype=np.int32)
    logprobs = np.array([[logprob for _, logprob in row] for row in filled], dtype=np.float32)
    topk = TopkLogprobs(tokens, logprobs)
    assert topk_to_lists(topk) == [row or None for row in rows]
    assert SampledSequence("stop", "s", topk_logprobs_np=topk).topk_logprobs == topk_to_lists(topk)
    assert SampleResponse([], topk_prompt_logprobs_np=topk).topk_prompt_logprobs == topk_to_lists(topk)


def test_no_tokens_wanted_gives_no_rows() -> None:
    assert topk_to_lists(TopkLogprobs(np.empty((2, 0), dtype=np.int32), np.empty((2, 0), dtype=np.float32))) == []
