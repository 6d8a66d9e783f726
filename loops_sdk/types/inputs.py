"""What goes into a model: chunks of text or image, `ModelInput` made of chunks, and `Datum`, one training example."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from loops_sdk.errors import InvalidInputError, UnshiftedTargetsWarning
from loops_sdk.types._arrays import DType, brief, same, token_array
from loops_sdk.types._checks import check_text, shown, whole
from loops_sdk.types._holding import FrozenDict, few
from loops_sdk.types.tensors import TensorData

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Datum", "EncodedTextChunk", "ImageChunk", "ModelInput"]

#: The type each documented input of a loss has; plain lists under these names are converted to it.
_INPUT_DTYPES: Mapping[str, DType] = {
    "target_tokens": "int64",
    "weights": "float32",
    "logprobs": "float32",
    "advantages": "float32",
    "mask": "float32",
    "clip_low_threshold": "float32",
    "clip_high_threshold": "float32",
}


def _as_tokens(value: Any) -> NDArray[np.int64]:
    return token_array(value, "tokens")


@attrs.frozen(eq=False, repr=False)
class EncodedTextChunk:
    """A run of token ids.

    Args:
        tokens: token ids (list, tuple, numpy or torch integers), all >= 0. Held as a read-only int64 array.
    """

    tokens: NDArray[np.int64] = attrs.field(converter=_as_tokens)

    @property
    def length(self) -> int:
        """Number of positions this chunk takes."""
        return int(self.tokens.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EncodedTextChunk):
            return NotImplemented
        return same(self.tokens, other.tokens)

    def __hash__(self) -> int:
        return hash(self.tokens.tobytes())

    def __reduce__(self) -> tuple[Any, ...]:
        """By construction: an unpickled array would be writeable."""
        return EncodedTextChunk, (self.tokens,)

    def __repr__(self) -> str:
        return f"EncodedTextChunk({brief(self.tokens)}, length={self.length})"


def _check_base64(_instance: object, _attribute: object, value: Any) -> None:
    try:
        problem = "" if isinstance(value, str) and base64.b64decode(value, validate=True) else "not text, or empty"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise InvalidInputError(f"data: expected the image as base64 text, got {type(value).__name__} ({problem})")


def _check_format(_instance: object, _attribute: object, value: Any) -> None:
    if value not in ("png", "jpeg"):
        raise InvalidInputError(f"format: expected 'png' or 'jpeg', got {shown(value)}")


@attrs.frozen
class ImageChunk:
    """An image, for models that see.

    Args:
        data: the encoded image as base64 text.
        expected_tokens: how many positions the model gives it.
        format: ``"png"`` or ``"jpeg"``.
    """

    data: str = attrs.field(validator=_check_base64, repr=lambda value: f"<{len(value)} base64 characters>")
    expected_tokens: int = attrs.field(validator=whole(low=1))
    format: str = attrs.field(default="png", validator=_check_format)

    @property
    def length(self) -> int:
        """Number of positions this chunk takes."""
        return self.expected_tokens


Chunk = EncodedTextChunk | ImageChunk


def _as_chunks(value: Any) -> tuple[Chunk, ...]:
    chunks: tuple[Any, ...] = tuple(value) if isinstance(value, Iterable) else (value,)
    for index, chunk in enumerate(chunks):
        if not isinstance(chunk, EncodedTextChunk | ImageChunk):
            raise InvalidInputError(
                f"chunks[{index}]: expected EncodedTextChunk or ImageChunk, got {type(chunk).__name__} "
                f"(for plain token ids use ModelInput.from_ints)"
            )
    return chunks


@attrs.frozen
class ModelInput:
    """A sequence of chunks: what the model reads, in order.

    Args:
        chunks: `EncodedTextChunk` and `ImageChunk` values.
    """

    chunks: tuple[Chunk, ...] = attrs.field(converter=_as_chunks, default=(), repr=few)

    @classmethod
    def from_ints(cls, tokens: Any) -> ModelInput:
        """One text chunk, without special tokens added.

        Args:
            tokens: token ids (list, tuple, numpy or torch integers), all >= 0.

        Raises:
            InvalidInputError: not a flat sequence of whole numbers >= 0.
        """
        return cls((EncodedTextChunk(tokens),))

    @classmethod
    def empty(cls) -> ModelInput:
        """No chunks yet; add some with `append`."""
        return cls(())

    def append(self, chunk: Chunk) -> ModelInput:
        """A new input with `chunk` at the end; this one stays as it is."""
        return ModelInput((*self.chunks, chunk))

    @property
    def length(self) -> int:
        """Number of positions, images counted by their expected tokens."""
        return sum(chunk.length for chunk in self.chunks)

    def to_ints(self) -> list[int]:
        """All token ids in order.

        Raises:
            InvalidInputError: the input holds an image, which has no token ids.
        """
        tokens: list[int] = []
        for index, chunk in enumerate(self.chunks):
            if isinstance(chunk, ImageChunk):
                raise InvalidInputError(f"chunks[{index}]: an image has no token ids")
            tokens.extend(chunk.tokens.tolist())
        return tokens


def _as_model_input(value: Any) -> ModelInput:
    try:
        return value if isinstance(value, ModelInput) else ModelInput.from_ints(value)
    except InvalidInputError as error:
        raise InvalidInputError(f"model_input: {error.message.removeprefix('tokens: ')}") from None


def _as_loss_inputs(value: Any) -> dict[str, TensorData]:
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"loss_fn_inputs: expected a dict of tensors by name, got {type(value).__name__}")
    for name in value:
        check_text("loss_fn_inputs: name", name, most=255)
    return FrozenDict({name: _as_tensor(name, tensor) for name, tensor in value.items()}, "loss_fn_inputs")


def _as_tensor(name: str, value: Any) -> TensorData:
    if isinstance(value, TensorData):
        return value
    try:
        return TensorData(value, dtype=_INPUT_DTYPES.get(name))
    except InvalidInputError as error:
        raise InvalidInputError(f"loss_fn_inputs[{name!r}]: {error.message}") from None


def _check_lengths(datum: Datum, _attribute: object, value: dict[str, TensorData]) -> None:
    length = datum.model_input.length
    for name, tensor in value.items():
        if not tensor.shape:
            value = tensor.data.item()
            raise InvalidInputError(
                f"loss_fn_inputs[{name!r}]: expected one value per position, got a single number; for the same one "
                f"everywhere give [{value:g}] * {length}"
            )
        if len(tensor) != length:
            raise InvalidInputError(
                f"loss_fn_inputs[{name!r}]: has {len(tensor)} values, but model_input has {length} positions"
                f"{_of_shifting(name, length - len(tensor))}"
            )
    if "target_tokens" in value:
        _check_shifted(datum.model_input, value["target_tokens"])


def _of_shifting(name: str, missing: int) -> str:
    if name != "target_tokens" or missing != 1:
        return ""
    return '; to learn each next token give Datum(tokens[:-1], {"target_tokens": tokens[1:]})'


def _check_shifted(given: ModelInput, targets: TensorData) -> None:
    """Warn of targets that are the input itself. They are legal, and hardly ever meant."""
    if len(given.chunks) != 1 or isinstance(chunk := given.chunks[0], ImageChunk) or chunk.length < 2:
        return
    tokens = chunk.tokens
    # What repeats one token looks the same however it is shifted.
    if tokens[0] == targets.data.flat[0] and same(tokens, targets.data) and (tokens != tokens[0]).any():
        warnings.warn(
            "target_tokens are the input itself: every position learns to repeat the token that it has just read. "
            'To learn each next token give Datum(tokens[:-1], {"target_tokens": tokens[1:]})',
            UnshiftedTargetsWarning,
            stacklevel=4,  # past the validator and the constructor
        )


@attrs.frozen
class Datum:
    """One training example.

    Args:
        model_input: what the model reads; a plain sequence of token ids is accepted too.
        loss_fn_inputs: the tensors that the loss needs, one value per position of `model_input`. Position `i` of
            ``target_tokens`` is scored by the model's output at position `i`: nothing is shifted for you. ``-100`` as a
            target means "ignore this position". Plain lists, numpy arrays and torch tensors become `TensorData`. The
            dict is a copy that cannot be changed: make a new `Datum` from ``{**datum.loss_fn_inputs, ...}``.

    Raises:
        InvalidInputError: a tensor whose first dimension is not the length of `model_input`, or a single number.

    Targets that equal the input at every position are most likely not shifted: `UnshiftedTargetsWarning` says so.
    """

    model_input: ModelInput = attrs.field(converter=_as_model_input)
    loss_fn_inputs: dict[str, TensorData] = attrs.field(
        converter=_as_loss_inputs, validator=_check_lengths, factory=dict[str, TensorData]
    )
