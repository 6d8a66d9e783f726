"""Values of the namespace become those of `loops_sdk`, and results come back; paths and loss names, too.

It decides nothing about calls. Arrays are handed over as they are; numpy is imported by whom makes one.
"""

from __future__ import annotations

import base64
import itertools
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import loops_sdk
import loops_sdk_sync.tinker.types as types
from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker._calls import refuse

T = TypeVar("T")

#: Losses of Tinker that Loops does not have.
_NO_LOSSES = {
    "stable_reinforce": 'its formula is not public; pass loss_fn="ppo" or loss_fn="importance_sampling"',
    "gspo": 'Loops clips by token, not by sequence; pass loss_fn="ppo" or loss_fn="cispo"',
    "custom": "losses of your own run in this process: pass the function to forward_backward_custom",
}

_session, _count = secrets.token_hex(4), itertools.count()


def to_loss(loss_fn: str) -> Any:
    """The name of a loss, unless Loops has none of that name."""
    if loss_fn in _NO_LOSSES:
        refuse(f"loss_fn={loss_fn!r}", _NO_LOSSES[loss_fn])
    return loss_fn


def to_input(prompt: types.ModelInput, argument: str) -> loops_sdk.ModelInput:
    """What a model reads.

    Raises:
        InvalidInputError: not a `ModelInput` of this namespace.
        NotOfferedError: a chunk of a kind that Loops does not take.
    """
    if not isinstance(prompt, types.ModelInput):
        raise InvalidInputError(f"{argument}: expected tinker.ModelInput, got {_kind(prompt)}")
    return loops_sdk.ModelInput(
        [_to_chunk(chunk, f"{argument}.chunks[{at}]") for at, chunk in enumerate(prompt.chunks)]
    )


def _to_chunk(chunk: object, where: str) -> loops_sdk.EncodedTextChunk | loops_sdk.ImageChunk:
    if isinstance(chunk, types.EncodedTextChunk):
        return loops_sdk.EncodedTextChunk(chunk.tokens)
    if not isinstance(chunk, types.ImageChunk):
        refuse(f"{where}: {type(chunk).__name__}", "Loops takes text (EncodedTextChunk) and images (ImageChunk)")
    if chunk.expected_tokens is None:
        raise InvalidInputError(f"{where}.expected_tokens: Loops must be told how many positions an image takes")
    return loops_sdk.ImageChunk(base64.b64encode(chunk.data).decode(), chunk.expected_tokens, chunk.format)


def to_data(data: Sequence[types.Datum]) -> list[loops_sdk.Datum]:
    """Training examples. Provenance stays here: the losses of Loops do not read it.

    Raises:
        InvalidInputError: something of another type; the message names the datum.
    """
    return [_to_datum(datum, f"data[{at}]") for at, datum in enumerate(data)]


def _to_datum(datum: types.Datum, where: str) -> loops_sdk.Datum:
    if not isinstance(datum, types.Datum):
        raise InvalidInputError(f"{where}: expected tinker.Datum, got {_kind(datum)}")
    try:
        tensors = {name: loops_sdk.TensorData(one.to_numpy(), one.dtype) for name, one in datum.loss_fn_inputs.items()}
        return loops_sdk.Datum(to_input(datum.model_input, "model_input"), tensors)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}.{error.message}") from None


def to_params(params: types.SamplingParams) -> loops_sdk.SamplingParams:
    """How to sample.

    Raises:
        InvalidInputError: a value out of range.
        NotOfferedError: no end but `max_tokens` is wanted.
    """
    if not isinstance(params, types.SamplingParams):
        raise InvalidInputError(f"sampling_params: expected tinker.SamplingParams, got {_kind(params)}")
    if params.stop is not None and not isinstance(params.stop, str) and not len(params.stop):
        refuse("stop=[]", "Loops cannot sample past the end of a turn; leave stop out, or name what ends a sequence")
    return loops_sdk.SamplingParams(
        params.temperature, params.top_p, params.top_k, params.max_tokens, params.seed, params.stop
    )


def to_path(path: str, argument: str = "path") -> str:
    """The ``bt://`` address of a ``tinker://`` path; either is taken.

    Raises:
        InvalidInputError: neither.
    """
    if not isinstance(path, str):
        raise InvalidInputError(f"{argument}: expected a tinker:// path, got {type(path).__name__}")
    parsed = types.ParsedCheckpointTinkerPath.from_tinker_path(path)
    return f"bt://loops:{parsed.training_run_id}/{parsed.checkpoint_id}"


def from_path(path: str) -> str:
    """The ``tinker://`` path of a ``bt://`` address."""
    return types.ParsedCheckpointTinkerPath.from_tinker_path(path).tinker_path


def from_output(output: loops_sdk.ForwardBackwardOutput, own: Iterable[str] = ()) -> types.ForwardBackwardOutput:
    """The result of a pass. Metrics without a reduction in their name are left out, but for those in `own`, which a
    loss of the user's gave: who adds batches up would not know how to.
    """
    tensors = [{name: _from_tensor(one) for name, one in row.items()} for row in output.loss_fn_outputs]
    metrics = {"loss:sum": output.loss, **output.metrics}
    kept = {name: value for name, value in metrics.items() if name.count(":") == 1 or name in own}
    return types.ForwardBackwardOutput(output.loss_fn_output_type or "", tensors, kept)


def _from_tensor(tensor: loops_sdk.TensorData) -> types.TensorData:
    return types.TensorData(tensor.to_numpy(), tensor.dtype, list(tensor.shape))


def from_result(result: loops_sdk.SampleResult, first: int = 0) -> types.SampleResponse:
    """What was sampled.

    Args:
        result: what Loops says.
        first: position in the prompt of the first token whose log-probability is wanted.
    """
    import numpy as np

    scores = without_first(first, result.prompt_logprobs)
    topk = without_first(first, result.topk_prompt_logprobs)
    return types.SampleResponse(
        [_from_sequence(sequence) for sequence in result.sequences],
        prompt_logprobs_np=None if scores is None else np.array(scores, np.float32),
        _prompt_logprobs_list=scores,
        _topk_prompt_logprobs_list=None if topk is None else [None if row is None else _ranked(row) for row in topk],
    )


def without_first(first: int, rows: list[T | None] | None) -> list[T | None] | None:
    """The rows, with `None` for those before `first`."""
    return None if rows is None else [row if at >= first else None for at, row in enumerate(rows)]


def _from_sequence(sequence: loops_sdk.SampledSequence) -> types.SampledSequence:
    import numpy as np

    return types.SampledSequence(
        "stop" if sequence.stop_reason == "stop" else "length",
        f"{_session}:{next(_count)}",
        tokens_np=np.array(sequence.tokens, np.int32),
        logprobs_np=np.array(sequence.logprobs, np.float32),
        _tokens_list=sequence.tokens,
        _logprobs_list=sequence.logprobs,
    )


def _ranked(row: Mapping[int, float]) -> list[tuple[int, float]]:
    return sorted(row.items(), key=lambda pair: -pair[1])


def from_checkpoint(saved: loops_sdk.Checkpoint) -> types.Checkpoint:
    """A saved checkpoint."""
    path = types.ParsedCheckpointTinkerPath.from_tinker_path(saved.path)
    return types.Checkpoint(
        checkpoint_id=path.checkpoint_id,
        checkpoint_type=path.checkpoint_type,
        time=saved.created_at,
        tinker_path=path.tinker_path,
        size_bytes=saved.size_bytes,
    )


def _kind(value: object) -> str:
    """The type of a value, with its package: `loops_sdk` has types of the same names."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
