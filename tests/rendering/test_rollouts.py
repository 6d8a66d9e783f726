"""Episodes as training examples: every token in its place, with what belongs to it and nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_sdk import (
    EncodedTextChunk,
    ImageChunk,
    InvalidInputError,
    ModelInput,
    Rollout,
    SampledSequence,
    SampleResult,
    group_advantages,
)
from loops_sdk.local.engine import losses
from loops_sdk.local.engine.datums import Limits, check, columns

ids = st.lists(st.integers(0, 99), max_size=5)
logprobs = st.floats(-20, 0, width=32)
turns = st.lists(st.tuples(st.booleans(), st.lists(st.tuples(st.integers(0, 99), logprobs), max_size=4)), max_size=6)


def sequence(*pairs: tuple[int, float]) -> SampledSequence:
    return SampledSequence([token for token, _ in pairs], [logprob for _, logprob in pairs], "stop")


@given(ids.filter(bool), turns, st.floats(-5, 5, width=32))
def test_each_position_holds_what_belongs_to_the_next_token(prompt: list[int], episode: Any, advantage: float) -> None:
    rollout, line = Rollout(prompt), [(token, None) for token in prompt]
    for sampled, pairs in episode:
        if sampled:
            rollout.sampled(sequence(*pairs))
        else:
            rollout.observed([token for token, _ in pairs])
        line += [(token, logprob if sampled else None) for token, logprob in pairs]
    assert rollout.prompt.to_ints() == [token for token, _ in line]
    while line and line[-1][1] is None:
        line.pop()
    if not line:
        with pytest.raises(InvalidInputError, match="nothing was sampled"):
            rollout.datum(advantage)
        return
    datum = rollout.datum(advantage)
    given = {name: tensor.tolist() for name, tensor in datum.loss_fn_inputs.items()}
    assert datum.model_input.to_ints() == [token for token, _ in line[:-1]]
    assert given["target_tokens"] == [-100 if logprob is None else token for token, logprob in line[1:]]
    assert given["logprobs"] == [logprob or 0.0 for _, logprob in line[1:]]
    assert given["advantages"] == [0.0 if logprob is None else advantage for _, logprob in line[1:]]
    assert given["mask"] == [float(logprob is not None) for _, logprob in line[1:]]


def episode() -> Rollout:
    rollout = Rollout([1, 2])
    rollout.sampled(sequence((3, -0.5), (4, -0.25)))
    rollout.observed([5, 6])
    rollout.sampled(sequence((7, -1.0)))
    rollout.observed([8])
    return rollout


@pytest.mark.parametrize("kind", [list, np.array])
def test_an_advantage_of_its_own_for_each_sampled_token(kind: Any) -> None:
    datum = episode().datum(advantage=kind([1.0, 2.0, 3.0]))
    assert datum.model_input.to_ints() == [1, 2, 3, 4, 5, 6]
    assert datum.loss_fn_inputs["target_tokens"].tolist() == [-100, 3, 4, -100, -100, 7]
    assert datum.loss_fn_inputs["advantages"].tolist() == [0, 1, 2, 0, 0, 3]


@given(ids.filter(bool), turns)
def test_what_another_model_says_of_the_episode_stands_beside_the_samples(prompt: list[int], episode: Any) -> None:
    rollout, expected = Rollout(prompt), []
    for sampled, pairs in episode:
        if sampled:
            start = rollout.prompt.length
            rollout.sampled(sequence(*pairs))
            expected += [(start + place, logprob) for place, (_, logprob) in enumerate(pairs)]
        else:
            rollout.observed([token for token, _ in pairs])
    places = rollout.of_sampled(range(rollout.prompt.length))
    assert list(zip(places, rollout.logprobs, strict=True)) == expected


def test_an_image_counts_as_the_tokens_that_it_takes() -> None:
    rollout = Rollout(ModelInput((EncodedTextChunk([1]), ImageChunk("aGk=", 3))))
    rollout.sampled(sequence((5, -1.0), (6, -2.0)))
    assert rollout.of_sampled(np.arange(6)) == [4, 5]


@pytest.mark.parametrize("loss_fn", losses.LOSSES)
def test_every_loss_takes_it_and_scores_the_sampled_tokens_alone(loss_fn: str) -> None:
    datum = episode().datum(2.0)
    check([datum], loss_fn, None, Limits(max_seq_len=10, vocab_size=10, num_outputs=10))
    flat = columns([datum], loss_fn, losses.settings(loss_fn, None))
    assert flat.kept.tolist() == flat.live.tolist() == [False, True, True, False, False, True]
    assert flat.scale.tolist() == [0, 1, 1, 0, 0, 1]


def test_an_episode_goes_on_after_its_datum() -> None:
    rollout = Rollout(ModelInput.from_ints([1]))
    rollout.sampled(sequence((2, -1.0)))
    before = rollout.datum(1.0)
    rollout.sampled(sequence((3, -2.0)))
    assert rollout.prompt == ModelInput.from_ints([1, 2, 3])
    assert before.model_input == ModelInput.from_ints([1])
    assert rollout.datum(1.0).model_input == ModelInput.from_ints([1, 2])


def test_a_prompt_with_an_image_keeps_it() -> None:
    image = ImageChunk("aGk=", 3)
    for chunks, after in (
        ((EncodedTextChunk([1]), image), (EncodedTextChunk([1]), image, EncodedTextChunk([5, 6]))),
        ((image, EncodedTextChunk([1])), (image, EncodedTextChunk([1, 5, 6]))),
    ):
        rollout = Rollout(ModelInput(chunks))
        assert rollout.prompt == ModelInput(chunks)
        rollout.sampled(sequence((5, -1.0), (6, -1.0)))
        assert rollout.prompt == ModelInput(after)
        datum = rollout.datum(1.0)
        assert datum.model_input.length == 5
        assert datum.loss_fn_inputs["target_tokens"].tolist() == [-100, -100, -100, 5, 6]


# ------------------------------------------------------------------ wrong arguments


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        call(*arguments)
    return caught.value.message


def test_wrong_prompts() -> None:
    for prompt in ([], ModelInput.empty(), ModelInput.from_ints([])):
        assert refused(Rollout, prompt).startswith("prompt: expected at least one token")
    assert refused(Rollout, "Hello!").startswith("prompt: expected")


def test_what_is_no_sampled_sequence() -> None:
    told = refused(Rollout([1]).sampled, SampleResult([sequence((2, -1.0))]))
    assert told.startswith("sequence: expected a SampledSequence, one of result.sequences, got SampleResult(")
    assert "observed" in told


@pytest.mark.parametrize(("given", "shown"), [(None, "none"), ([], "none"), ([-1.0], "1")])
def test_a_sequence_without_its_logprobs(given: Any, shown: str) -> None:
    rollout = Rollout([1])
    told = refused(rollout.sampled, SampledSequence([2, 3], given, "stop"))
    assert told.startswith(f"sequence.logprobs: expected one log-probability for each of the 2 tokens, got {shown};")
    assert "which always asks for them" in told
    assert rollout.prompt.to_ints() == [1]


def test_a_logprob_that_is_no_number() -> None:
    told = refused(Rollout([1]).sampled, sequence((2, -1.0), (3, -math.inf)))
    assert told == "sequence.logprobs[1]: expected a finite number, got -inf"


def test_values_that_belong_to_another_episode() -> None:
    told = refused(episode().of_sampled, [0.0] * 7)
    assert told == "values: expected one for each of the 8 tokens of rollout.prompt, got 7"


def test_wrong_observations() -> None:
    assert refused(Rollout([1]).observed, [0.5]).startswith("tokens: ")


@pytest.mark.parametrize(("advantage", "told"), [
    ([1.0, 2.0], "advantage: expected one number, or one for each of the 3 sampled tokens, got shape [2]"),
    (math.nan, "advantage: expected finite numbers, got nan"),
    ([1.0, math.inf, 0.0], "advantage: expected finite numbers, got inf"),
    ("much", "advantage: expected integers or floats, got str 'much'"),
])  # fmt: skip
def test_wrong_advantages(advantage: Any, told: str) -> None:
    assert refused(episode().datum, advantage) == told


# ------------------------------------------------------------------ advantages within a group

rewards = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)


@given(rewards)
def test_advantages_sum_to_nothing_and_keep_the_differences(group: list[float]) -> None:
    found = group_advantages(group)
    assert math.fsum(found) == pytest.approx(0, abs=1e-4)
    assert [a - found[0] for a in found] == pytest.approx([r - group[0] for r in group], abs=1e-4)


@given(st.lists(st.integers(-(10**6), 10**6).map(lambda reward: reward / 1000), min_size=1, max_size=8))
def test_normalized_ones_have_the_spread_one(group: list[float]) -> None:
    found = group_advantages(group, normalize=True)
    assert found == pytest.approx([0.0] * len(group)) or np.std(found) == pytest.approx(1)


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=8))
def test_differences_of_any_size_are_seen(group: list[float]) -> None:
    found = group_advantages(group, normalize=True)
    assert all(math.isfinite(advantage) for advantage in found)
    assert any(found) == (len(set(group)) > 1)


@given(st.floats(-1e6, 1e6), st.integers(1, 9), st.booleans())
def test_equal_rewards_teach_nothing(reward: float, count: int, normalize: bool) -> None:
    assert group_advantages([reward] * count, normalize) == [0.0] * count


def test_rewards_may_be_booleans_and_numpy_numbers() -> None:
    assert group_advantages([True, False]) == group_advantages(np.array([1.0, 0.0])) == [0.5, -0.5]


def test_wrong_rewards() -> None:
    assert refused(group_advantages, []) == "rewards: expected those of at least one episode, got none"
    assert refused(group_advantages, [1.0, math.nan]) == "rewards[1]: expected a finite number, got nan"
    assert refused(group_advantages, ["1"]) == "rewards[0]: expected a finite number, got '1'"
