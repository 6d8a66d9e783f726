"""What a datum asks the model: the target of every position, spelt out, and nothing else.

It decides which positions count. What is made of their log-probabilities is somebody else's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loops_sdk.errors import InvalidInputError, ProtocolError
from loops_sdk.types import Datum, EncodedTextChunk, ForwardBackwardOutput, TensorData

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: As a target: "do not score this position".
IGNORED = -100


def questions(data: Sequence[Datum]) -> list[Datum]:
    """The same inputs with ``target_tokens`` alone: the datum's own, or the input shifted by one with the last position
    ignored. Positions with a `mask` of 0 are ignored too. All other inputs stay behind.

    Raises:
        InvalidInputError: a mask that does not fit the targets, or no targets beside an image.
    """
    return [_question(datum, f"data[{index}]") for index, datum in enumerate(data)]


def _question(datum: Datum, where: str) -> Datum:
    import numpy as np

    targets = datum.loss_fn_inputs.get("target_tokens")
    if targets is None:
        targets = TensorData(_shifted(datum, where))
    if (mask := datum.loss_fn_inputs.get("mask")) is not None:
        if mask.shape != targets.shape:
            shapes = f"{list(targets.shape)} like target_tokens, got {list(mask.shape)}"
            raise InvalidInputError(f"{where}.loss_fn_inputs['mask']: expected shape {shapes}")
        targets = TensorData(np.where(mask.data != 0, targets.data, IGNORED), targets.dtype, targets.shape)
    return Datum(datum.model_input, {"target_tokens": targets})


def _shifted(datum: Datum, where: str) -> NDArray[np.int64]:
    import numpy as np

    chunks = [chunk.tokens for chunk in datum.model_input.chunks if isinstance(chunk, EncodedTextChunk)]
    if len(chunks) < len(datum.model_input.chunks):
        raise InvalidInputError(f"{where}: an image has no token ids to be predicted; give target_tokens")
    tokens = np.concatenate([np.empty(0, np.int64), *chunks])
    return np.append(tokens[1:], IGNORED)[: tokens.size]


def counted(question: Datum) -> NDArray[np.bool_]:
    """True where the target is scored."""
    scored: NDArray[np.bool_] = question.loss_fn_inputs["target_tokens"].to_numpy() != IGNORED
    return scored


def logprobs_of(output: ForwardBackwardOutput, asked: Sequence[Datum]) -> list[TensorData]:
    """The trainer's log-probabilities of the targets, float32, in the order of the questions.

    Raises:
        ProtocolError: not one per target.
    """
    if len(output.loss_fn_outputs) != len(asked):
        told = f"{len(output.loss_fn_outputs)} loss_fn_outputs for {len(asked)} datums"
        raise ProtocolError(f"unexpected result: {told}", operation="forward")
    answers = zip(output.loss_fn_outputs, asked, strict=True)
    return [_answer(answer, question, index) for index, (answer, question) in enumerate(answers)]


def _answer(answer: dict[str, Any], question: Datum, index: int) -> TensorData:
    logprobs, wanted = answer.get("logprobs"), question.loss_fn_inputs["target_tokens"].shape
    if not isinstance(logprobs, TensorData) or logprobs.shape != wanted:
        told = "nothing" if logprobs is None else f"shape {list(logprobs.shape)}"
        message = f"unexpected result: loss_fn_outputs[{index}]['logprobs']: expected shape {list(wanted)}, got {told}"
        raise ProtocolError(message, operation="forward")
    return TensorData(logprobs, "float32")
