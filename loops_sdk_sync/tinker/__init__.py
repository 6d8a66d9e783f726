"""The public namespace of the Tinker SDK, spoken by the clients of this package.

    import loops_sdk_sync.tinker as tinker

runs a script that was written for `import tinker`; so does, with the script as it is, `loops run --tinker SCRIPT`. It
speaks to Loops: key and address come from ``BASETEN_API_KEY`` and ``LOOPS_BASE_URL``. What Loops has no counterpart of
raises an error that says so by name.
"""

from typing import NoReturn

from loops_sdk_sync.tinker import types
from loops_sdk_sync.tinker._exceptions import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BillingError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    NotOfferedError,
    PermissionDeniedError,
    RateLimitError,
    RequestFailedError,
    TinkerError,
    UnprocessableEntityError,
)
from loops_sdk_sync.tinker.lib.public_interfaces import (
    APIFuture,
    BackcompatSamplingClientFuture,
    BackcompatTrainingClientFuture,
    RestClient,
    SamplingClient,
    ServiceClient,
    TrainingClient,
)
from loops_sdk_sync.tinker.loader import install, uninstall
from loops_sdk_sync.tinker.types import (
    AdamOptimizerConfig,
    AdamParams,
    Checkpoint,
    CheckpointType,
    Datum,
    DimuonOptimizerConfig,
    DimuonParams,
    DmelChunk,
    EncodedTextChunk,
    ForwardBackwardOutput,
    LoraConfig,
    ModelID,
    ModelInput,
    ModelInputChunk,
    OptimParams,
    OptimStepRequest,
    OptimStepResponse,
    ParsedCheckpointTinkerPath,
    PromptProvenanceSpan,
    SampledProvenanceSpan,
    SampledSequence,
    SampleRequest,
    SampleResponse,
    SamplingParams,
    StopReason,
    TensorData,
    TensorDtype,
    TrainingRun,
)

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIFuture",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AdamOptimizerConfig",
    "AdamParams",
    "AuthenticationError",
    "BackcompatSamplingClientFuture",
    "BackcompatTrainingClientFuture",
    "BadRequestError",
    "BillingError",
    "Checkpoint",
    "CheckpointType",
    "ConflictError",
    "Datum",
    "DimuonOptimizerConfig",
    "DimuonParams",
    "DmelChunk",
    "EncodedTextChunk",
    "ForwardBackwardOutput",
    "InternalServerError",
    "LoraConfig",
    "ModelID",
    "ModelInput",
    "ModelInputChunk",
    "NotFoundError",
    "NotOfferedError",
    "OptimParams",
    "OptimStepRequest",
    "OptimStepResponse",
    "ParsedCheckpointTinkerPath",
    "PermissionDeniedError",
    "PromptProvenanceSpan",
    "RateLimitError",
    "RequestFailedError",
    "RestClient",
    "SampleRequest",
    "SampleResponse",
    "SampledProvenanceSpan",
    "SampledSequence",
    "SamplingClient",
    "SamplingParams",
    "ServiceClient",
    "StopReason",
    "TensorData",
    "TensorDtype",
    "TinkerError",
    "TrainingClient",
    "TrainingRun",
    "UnprocessableEntityError",
    "__title__",
    "__version__",
    "install",
    "types",
    "uninstall",
]

__title__ = "tinker"
#: The version of the Tinker SDK whose interface this is; that of the package is ``loops --version``.
__version__ = "0.38.0"

#: What is left out, by reason.
_LEFT_OUT = {
    "it belongs to Tinker's accounts, billing and login; Loops takes its key from BASETEN_API_KEY": """
        AdminClient auth""",
    "it belongs to losses that run on Tinker's servers; forward_backward_custom takes the function itself": """
        LossHandle PerDatumLossFn""",
    "it belongs to an HTTP library that is not beneath this package; every wait has a deadline without it": """
        APIResponse AsyncAPIResponse RequestOptions Timeout resources""",
    "nothing here is experimental": "ExperimentalWarning",
}


def __getattr__(name: str) -> NoReturn:
    for reason, names in _LEFT_OUT.items():
        if name in names.split():
            raise AttributeError(f"tinker.{name} is left out on purpose: {reason}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
