"""Episodes of reinforcement learning as training examples: what the policy chose and what it was shown, in one line.

It decides the alignment of targets, log-probabilities, advantages and mask. It knows no environment and no loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, SupportsFloat

from loops_sdk.errors import InvalidInputError
from loops_sdk.rendering.renderer import IGNORED
from loops_sdk.types import Datum, EncodedTextChunk, ModelInput, SampledSequence
from loops_sdk.types._arrays import as_array, token_array
from loops_sdk.types._checks import shown

__all__ = ["Rollout", "group_advantages"]


class Rollout:
    """One episode: a prompt, what the policy sampled, and what its environment said in between; one turn or many.

    Args:
        prompt: what the first sample continues: token ids (list, numpy or torch integers), or a `ModelInput`, images
            included. At least one token.

    Raises:
        InvalidInputError: no token ids, or none at all.
    """

    def __init__(self, prompt: Any) -> None:
        self._start = prompt if isinstance(prompt, ModelInput) else ModelInput.from_ints(token_array(prompt, "prompt"))
        if self._start.length == 0:
            raise InvalidInputError(
                "prompt: expected at least one token, for the first sampled one to be predicted from"
            )
        self._tokens: list[int] = []
        self._logprobs: list[float | None] = []

    def sampled(self, sequence: SampledSequence) -> None:
        """Add what the policy chose, as it continued `prompt`.

        Args:
            sequence: from `SampleResult.sequences`, with a log-probability per token.

        Raises:
            InvalidInputError: no sampled sequence, or one whose log-probabilities are missing or not finite.
        """
        if not isinstance(sequence, SampledSequence):
            raise InvalidInputError(
                f"sequence: expected a SampledSequence, one of result.sequences, got {shown(sequence)}; "
                "tokens that the policy did not choose go to observed"
            )
        logprobs = _logprobs(sequence)
        self._tokens += token_array(sequence.tokens, "sequence.tokens").tolist()
        self._logprobs += logprobs

    def observed(self, tokens: Any) -> None:
        """Add what the environment said: tool results, the user's turn, the marks of the chat template between turns.

        Args:
            tokens: token ids (list, numpy or torch integers). They carry no loss.

        Raises:
            InvalidInputError: not a flat sequence of token ids.
        """
        observed: list[int] = token_array(tokens, "tokens").tolist()
        self._tokens += observed
        self._logprobs += [None] * len(observed)

    @property
    def prompt(self) -> ModelInput:
        """All tokens so far: what the next sample continues."""
        return self._input(len(self._tokens))

    @property
    def logprobs(self) -> list[float]:
        """The log-probabilities of all sampled tokens so far, in nats, as the policy had them."""
        return [logprob for logprob in self._logprobs if logprob is not None]

    def of_sampled(self, values: Sequence[Any]) -> list[Any]:
        """Of one value per token of `prompt`, those of the sampled tokens, in order. So what another model says of the
        whole episode, with `compute_logprobs(rollout.prompt)`, stands beside `logprobs`.

        Args:
            values: one per token of `prompt`, images included.

        Raises:
            InvalidInputError: not as many values as `prompt` has tokens.
        """
        length = self._start.length + len(self._tokens)
        if len(values) != length:
            raise InvalidInputError(
                f"values: expected one for each of the {length} tokens of rollout.prompt, got {len(values)}"
            )
        own = values[self._start.length :]
        return [value for value, logprob in zip(own, self._logprobs, strict=True) if logprob is not None]

    def datum(self, advantage: float | Sequence[float] | Any) -> Datum:
        """The episode as a training example for the losses ``importance_sampling``, ``ppo``, ``dppo``, ``cispo`` and
        ``dro``; also for ``cross_entropy``, which then imitates what was sampled.

        Position `i` of ``target_tokens``, ``logprobs``, ``advantages`` and ``mask`` belongs to the token after position
        `i` of the input. Where that token was sampled, they hold it, its log-probability, its advantage and 1;
        elsewhere -100, 0, 0 and 0: no loss. What was observed after the last sampled token is left out.

        Args:
            advantage: how much better than expected the episode went, for all sampled tokens alike; or one number per
                sampled token, in order (list, numpy or torch floats).

        Raises:
            InvalidInputError: nothing was sampled, or `advantage` is neither a finite number nor one per sampled token.
        """
        places = [place for place, logprob in enumerate(self._logprobs) if logprob is not None]
        if not places:
            raise InvalidInputError("rollout: nothing was sampled; add what the policy chose with sampled(sequence)")
        advantages = dict(zip(places, _advantages(advantage, len(places)), strict=True))
        columns = [self._column(place, advantages.get(place, 0.0)) for place in range(places[-1] + 1)]
        columns = [(IGNORED, 0.0, 0.0, 0.0)] * (self._start.length - 1) + columns
        targets, logprobs, worth, mask = zip(*columns, strict=True)
        inputs = {"target_tokens": targets, "logprobs": logprobs, "advantages": worth, "mask": mask}
        return Datum(self._input(places[-1]), inputs)

    def _column(self, place: int, advantage: float) -> tuple[int, float, float, float]:
        logprob = self._logprobs[place]
        return (IGNORED, 0.0, 0.0, 0.0) if logprob is None else (self._tokens[place], logprob, advantage, 1.0)

    def _input(self, length: int) -> ModelInput:
        """The prompt and the first tokens after it."""
        *before, last = self._start.chunks
        added = self._tokens[:length]
        if isinstance(last, EncodedTextChunk):
            return ModelInput((*before, EncodedTextChunk([*last.tokens.tolist(), *added])))
        return ModelInput((*before, last, EncodedTextChunk(added))) if added else self._start


def group_advantages(rewards: Iterable[SupportsFloat], normalize: bool = False) -> list[float]:
    """How much better than its group each episode went: its reward minus the group's mean, as in group relative policy
    optimization (GRPO).

    Args:
        rewards: of several episodes from the same prompt; numbers or booleans.
        normalize: divide by the standard deviation of the group (that of the rewards themselves, not an estimate for a
            larger population).

    Returns:
        One advantage per reward. All 0.0 where all rewards are equal: such a group teaches nothing.

    Raises:
        InvalidInputError: there are no rewards, or one is not a finite number.
    """
    group = [_reward(index, reward) for index, reward in enumerate(rewards)]
    if not group:
        raise InvalidInputError("rewards: expected those of at least one episode, got none")
    if len(set(group)) == 1:
        return [0.0] * len(group)  # rounding of the mean must not look like a difference
    mean = math.fsum(group) / len(group)
    gains = [reward - mean for reward in group]
    if not normalize:
        return gains
    length = math.hypot(*gains)  # squares of small differences would be lost
    return [gain / length * math.sqrt(len(gains)) for gain in gains]


def _reward(index: int, reward: SupportsFloat) -> float:
    try:
        value = float(reward)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        value = math.nan
    if isinstance(reward, str) or not math.isfinite(value):
        raise InvalidInputError(f"rewards[{index}]: expected a finite number, got {shown(reward)}")
    return value


def _logprobs(sequence: SampledSequence) -> list[float]:
    given: list[float] | None = sequence.logprobs  # a sequence made by hand may lack them
    if given is None or len(given) != len(sequence.tokens):
        count = len(given) if given else "none"
        raise InvalidInputError(
            f"sequence.logprobs: expected one log-probability for each of the {len(sequence.tokens)} tokens, got "
            f"{count}; take the sequence as a SamplingClient of this package gives it, which always asks for them, "
            "or add tokens without log-probabilities with observed"
        )
    for index, logprob in enumerate(given):
        if not math.isfinite(logprob):
            raise InvalidInputError(f"sequence.logprobs[{index}]: expected a finite number, got {logprob}")
    return list(given)


def _advantages(advantage: Any, count: int) -> list[float]:
    array = as_array(advantage, "float32", "advantage")
    if array.shape not in ((), (count,)):
        raise InvalidInputError(
            f"advantage: expected one number, or one for each of the {count} sampled tokens, "
            f"got shape {list(array.shape)}"
        )
    values: list[float] = array.tolist() if array.ndim else [float(array)] * count
    for value in values:
        if not math.isfinite(value):
            raise InvalidInputError(f"advantage: expected finite numbers, got {value}")
    return values
