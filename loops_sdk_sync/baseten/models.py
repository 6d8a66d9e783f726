"""The values, by the name under which scripts import them, and the two methods that scripts call on them.

They are the classes of `loops_sdk`, not copies: what clients give and take, nested at any depth, is equal and of one
type whatever it was imported as. The service's are pydantic models, so scripts write ``value.model_dump()`` and
``Datum.model_validate(...)``. Importing this module gives the classes these two names for the functions that do the
same for everyone, `loops_sdk.to_dict` and `loops_sdk.from_dict`; nobody who does not import it has a second way.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import attrs

import loops_sdk
from loops_sdk import (
    AdamParams,
    BasetenDeployment,
    Checkpoint,
    CheckpointFile,
    CheckpointFilesResponse,
    CheckpointPath,
    Datum,
    Deployment,
    EnablementDetails,
    EncodedTextChunk,
    ForwardBackwardOutput,
    GetInfoResponse,
    ImageChunk,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    LocalDeployment,
    LoraConfig,
    LossFn,
    ModelInput,
    OperationInfo,
    OptimStepResponse,
    Run,
    SampledSequence,
    Sampler,
    SampleResult,
    SamplingParams,
    SaveWeightsResponse,
    ServerCapabilities,
    SupportedModel,
    TensorData,
    WandbConfig,
)

__all__ = [
    "AdamParams",
    "BasetenDeployment",
    "Checkpoint",
    "CheckpointFile",
    "CheckpointFilesResponse",
    "CheckpointPath",
    "Datum",
    "Deployment",
    "EnablementDetails",
    "EncodedTextChunk",
    "ForwardBackwardOutput",
    "GetInfoResponse",
    "ImageChunk",
    "InitTrainerServerResponse",
    "LoadWeightsResponse",
    "LocalDeployment",
    "LoraConfig",
    "LossFn",
    "ModelInput",
    "OperationInfo",
    "OptimStepResponse",
    "Run",
    "SampleResult",
    "SampledSequence",
    "Sampler",
    "SamplingParams",
    "SaveWeightsResponse",
    "ServerCapabilities",
    "SupportedModel",
    "TensorData",
    "WandbConfig",
]

V = TypeVar("V")

#: Fields that values of Tinker have and those of the service do not. Unset they say nothing; set they are refused.
_TINKERS = {"loss_fn_input_spans", "model_input_spans", "sparse_col_indices", "sparse_crow_indices"}


def model_dump(self: object, *, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
    """The value as plain dicts, lists, strings and numbers, whatever the `mode`: `loops_sdk.to_dict`."""
    plain: dict[str, Any] = loops_sdk.to_dict(self)
    return plain


def model_validate(cls: type[V], obj: Any) -> V:
    """The value of this class that `obj` is, or is the `model_dump` of: `loops_sdk.from_dict`. The dump may be that of
    a Tinker value, a datum for example.

    Raises:
        InvalidInputError: `obj` has another shape, or a field that this class does not have.
    """
    return obj if isinstance(obj, cls) else loops_sdk.from_dict(cls, _without_unset(obj))


def _without_unset(plain: Any) -> Any:
    if isinstance(plain, dict):
        kept = {name: value for name, value in plain.items() if name not in _TINKERS or value is not None}
        return {name: _without_unset(value) for name, value in kept.items()}
    if isinstance(plain, list) and plain and isinstance(plain[0], dict):  # lists of numbers are long
        return [_without_unset(item) for item in plain]
    return plain


for _kind in [globals()[name] for name in __all__]:
    if attrs.has(_kind):
        type.__setattr__(_kind, "model_dump", model_dump)
        type.__setattr__(_kind, "model_validate", classmethod(model_validate))
