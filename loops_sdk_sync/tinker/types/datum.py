"""One training example."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker.types._model import Value
from loops_sdk_sync.tinker.types._reading import read, refuse
from loops_sdk_sync.tinker.types.loss_fn_type import LossFnInputs
from loops_sdk_sync.tinker.types.model_input import ModelInput
from loops_sdk_sync.tinker.types.provenance_spans import PromptProvenanceSpan, ProvenanceSpans, SampledProvenanceSpan
from loops_sdk_sync.tinker.types.tensor_data import TensorData, TensorDtype

__all__ = ["Datum"]

#: What a plain list under this name is converted to.
_DTYPES: dict[str, TensorDtype] = {
    "target_tokens": "int64",
    "weights": "float32",
    "advantages": "float32",
    "logprobs": "float32",
    "mask": "float32",
    "clip_low_threshold": "float32",
    "clip_high_threshold": "float32",
    "sequence_ratio_mask": "float32",
}

#: Torch tensors of two dimensions under these names hold many zeros.
_SPARSE = ("target_tokens", "weights")


@dataclasses.dataclass(frozen=True)
class Datum(Value):
    """One training example.

    Args:
        model_input: what the model reads.
        loss_fn_inputs: what the loss reads, by name: `TensorData`, a numpy array, a torch tensor, or a list under a
            name whose type is known. The dict is a copy; it may be changed afterwards.
        model_input_spans, loss_fn_input_spans: where the tokens of the input and of ``target_tokens`` came from, both
            or neither; see `with_provenance`.

    Raises:
        InvalidInputError: something of this has another form; the message names it.
        TypeError: a loss input or a span is of a type that cannot stand there.
    """

    model_input: ModelInput
    loss_fn_inputs: LossFnInputs = dataclasses.field(default_factory=dict)
    model_input_spans: ProvenanceSpans | None = None
    loss_fn_input_spans: ProvenanceSpans | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "model_input", read(ModelInput, self.model_input, "model_input"))
        tensors = {name: _as_tensor(name, value) for name, value in self.loss_fn_inputs.items()}
        object.__setattr__(self, "loss_fn_inputs", tensors)
        for name in ("model_input_spans", "loss_fn_input_spans"):
            object.__setattr__(self, name, _as_spans(name, getattr(self, name)))
        if (self.model_input_spans is None) != (self.loss_fn_input_spans is None):
            raise InvalidInputError("model_input_spans and loss_fn_input_spans: expected both or neither")

    def with_provenance(self, model_input: ProvenanceSpans, loss_fn_inputs: ProvenanceSpans) -> Self:
        """A copy that says where its tokens came from.

        Args:
            model_input: runs that cover the positions of the model's input, in order.
            loss_fn_inputs: runs that cover those of ``target_tokens``, in order.

        Raises:
            InvalidInputError: the runs cover more or fewer positions.
        """
        _check_cover("model_input", model_input, self.model_input.length)
        targets = self.loss_fn_inputs.get("target_tokens")
        if targets is not None and targets.shape is not None and len(targets.shape) == 1:
            _check_cover("loss_fn_inputs", loss_fn_inputs, targets.shape[0])
        return dataclasses.replace(self, model_input_spans=model_input, loss_fn_input_spans=loss_fn_inputs)

    @property
    def model_fields_set(self) -> set[str]:
        """Names of the fields that hold something; plain data without spans is what other packages take."""
        spans = ("model_input_spans", "loss_fn_input_spans")
        return {name for name in self.model_fields if name not in spans or getattr(self, name) is not None}

    def model_dump(self, *, exclude: Any = (), **how: Any) -> dict[str, Any]:
        """The fields as plain data, spans only where there are some.

        Args:
            exclude: names of the fields not wanted.
            how: as for every value: `mode`, `include`, `exclude_unset`, `exclude_none`.
        """
        absent = set(self.model_fields) - self.model_fields_set
        return super().model_dump(exclude=absent.union(exclude), **how)


def _as_tensor(name: str, value: Any) -> TensorData:
    if isinstance(value, TensorData):
        return value
    if isinstance(value, Mapping):
        return TensorData.model_validate(value)
    if hasattr(value, "detach"):  # torch, which is not imported for a question
        sparse = name in _SPARSE and value.ndim == 2
        return TensorData.from_torch_sparse(value) if sparse else TensorData.from_torch(value)
    if hasattr(value, "dtype"):
        return TensorData.from_numpy(value)
    if not isinstance(value, list):
        raise TypeError(
            f"loss_fn_inputs[{name!r}]: expected TensorData, an array or a list, got {type(value).__name__}"
        )
    return _from_list(name, value)


def _from_list(name: str, values: list[Any]) -> TensorData:
    import numpy as np

    if name not in _DTYPES:
        refuse(f"loss_fn_inputs[{name!r}]", "TensorData, since no type is known for a list under this name", values)
    try:
        array = np.asarray(values, dtype=_DTYPES[name])
    except (ValueError, TypeError):
        refuse(f"loss_fn_inputs[{name!r}]", "numbers in a regular shape", values)
    return TensorData(array, _DTYPES[name], list(array.shape))


def _as_spans(name: str, spans: Any) -> ProvenanceSpans | None:
    if spans is None:
        return None
    for span in spans:
        if not isinstance(span, PromptProvenanceSpan | SampledProvenanceSpan):
            raise TypeError(f"{name}: expected provenance spans, got {type(span).__name__}")
    return list(spans)


def _check_cover(argument: str, spans: ProvenanceSpans, length: int) -> None:
    covered = sum(span.length for span in spans)
    if covered != length:
        raise InvalidInputError(f"{argument}: the spans cover {covered} positions, but there are {length}")
