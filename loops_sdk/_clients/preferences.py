"""Log-probabilities of a reference policy, attached to the data that a preference loss is trained on.

It decides how a sampler or a trainer is asked for them. The loss itself is the user's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from loops_sdk._clients.passes import batch_of
from loops_sdk._clients.sampling import SamplingClient
from loops_sdk._clients.targets import IGNORED, counted, logprobs_of, questions
from loops_sdk._clients.training import TrainingClient
from loops_sdk.errors import InvalidInputError, ProtocolError
from loops_sdk.types import Datum, TensorData
from loops_sdk.types._checks import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

#: Sequences that a sampler is asked about at a time.
_AT_ONCE = 32


async def attach_reference_logprobs_async(
    data: Sequence[Datum], reference: SamplingClient | TrainingClient
) -> list[Datum]:
    """The same data, each datum with `reference_logprobs` in its `loss_fn_inputs`: what a fixed policy says of the
    targets, for losses that compare with it, as that of direct preference optimization (arXiv 2305.18290) does; see
    `TrainingClient.forward_backward_custom_async`.

    Args:
        data: the examples; without `target_tokens` the targets are the input shifted by one. Left as they are; a
            `reference_logprobs` that one has already is replaced in the copy.
        reference: a `SamplingClient`, asked with `compute_logprobs_async` for up to 32 sequences at a time, whose
            targets must be the input shifted by one, -100 allowed; or a `TrainingClient`, asked with one
            `forward_async`, for any targets. It answers with the weights it has at that time: take a sampler of the
            base model or of a checkpoint, or a trainer before its first step.

    Returns:
        New datums in the order of `data`. `reference_logprobs` is float32, in nats, one value per target, 0.0 where the
        target is -100 or the `mask` is 0.

    Raises:
        InvalidInputError: an argument is wrong, or targets that the sampler cannot score; nothing was sent.
        BadRequestError: the reference refused a sequence, for example because it is too long.
        LoopsError: the reference could not be asked, after bounded attempts.
    """
    batch = batch_of(data)
    asked = questions(batch)
    if isinstance(reference, TrainingClient):
        logprobs = logprobs_of(await (await reference.forward_async(asked)), asked)
    elif isinstance(reference, SamplingClient):
        sequences = [_sequence(question, f"data[{index}]") for index, question in enumerate(asked)]
        logprobs = await _of_sampler(reference, sequences, asked)
    else:
        raise InvalidInputError(f"reference: expected SamplingClient or TrainingClient, got {shown(reference)}")
    return [
        Datum(datum.model_input, {**datum.loss_fn_inputs, "reference_logprobs": values})
        for datum, values in zip(batch, logprobs, strict=True)
    ]


def _sequence(question: Datum, where: str) -> list[int]:
    """The input and the target of its last position, once it is sure that every target is the next token."""
    import numpy as np

    try:
        tokens = question.model_input.to_ints()
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}.model_input: {error.message}; ask a TrainingClient") from None
    targets = question.loss_fn_inputs["target_tokens"].to_numpy()
    if targets.shape != (len(tokens),) or not tokens:
        raise InvalidInputError(f"{where}: expected one target per token, got shape {list(targets.shape)}")
    wrong = np.flatnonzero((targets[:-1] != IGNORED) & (targets[:-1] != tokens[1:]))
    if wrong.size:
        place = int(wrong[0])
        raise InvalidInputError(
            f"{where}.loss_fn_inputs['target_tokens'][{place}]: a sampler scores the input shifted by one, so it must "
            f"be {tokens[place + 1]} or {IGNORED}, got {targets[place]}; ask a TrainingClient for other targets"
        )
    return tokens if targets[-1] == IGNORED else [*tokens, int(targets[-1])]


async def _of_sampler(
    reference: SamplingClient, sequences: list[list[int]], asked: Sequence[Datum]
) -> list[TensorData]:
    free = asyncio.Semaphore(_AT_ONCE)

    async def ask(sequence: list[int], question: Datum) -> TensorData:
        async with free:
            return _aligned(await reference.compute_logprobs_async(sequence), counted(question))

    return await _all(ask(sequence, question) for sequence, question in zip(sequences, asked, strict=True))


def _aligned(logprobs: Sequence[float | None], scored: NDArray[np.bool_]) -> TensorData:
    """Entry i of what the sampler says is of token i, so that of target i is entry i + 1."""
    import numpy as np

    values: NDArray[Any] = np.zeros(scored.shape, np.float32)
    values[: len(logprobs) - 1] = [np.nan if value is None else value for value in logprobs[1:]]
    if np.isnan(values[scored]).any():
        raise ProtocolError("unexpected completion: a prompt token without a log-probability", operation="sample")
    return TensorData(np.where(scored, values, np.float32(0)))


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    """The results in order; the first error, or a cancellation, ends the other calls."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
