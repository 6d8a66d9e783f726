"""Train LoRA adapters of large language models by remote calls, from asyncio code.

    async with ServiceClient() as service:
        training = await service.create_lora_training_client_async("Qwen/Qwen3-8B", rank=16)
        result = await (await training.forward_backward_async([datum]))
        await (await training.optim_step_async(AdamParams(learning_rate=4e-5)))

For scripts without an event loop there is `loops_sdk_sync`; for a laptop without an account, `loops_sdk.local`.
"""

from loops_sdk._clients.sampling import SamplingClient
from loops_sdk._clients.service import ServiceClient
from loops_sdk._clients.training import ForwardBackwardFuture, TrainingClient
from loops_sdk._net.futures import ComposedFuture, OperationFuture
from loops_sdk._wire.codec import from_dict, to_dict
from loops_sdk.errors import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConnectionFailedError,
    DeploymentFailedError,
    InvalidInputError,
    LoopsError,
    NotFoundError,
    OperationTimeoutError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RemoteOpError,
    RequestTimeoutError,
    ServerFailureError,
    ServerShutdownError,
    StatusError,
    UnknownRequestError,
    UnretrievedErrorWarning,
    WeightsNotReadyError,
)
from loops_sdk.types import (
    AdamParams,
    Checkpoint,
    CheckpointFile,
    CheckpointFilesResponse,
    CheckpointPath,
    Datum,
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
    OptimStepResponse,
    SampledSequence,
    SampleResult,
    SamplingParams,
    SaveWeightsResponse,
    TensorData,
)

__all__ = [
    "AdamParams",
    "AuthenticationError",
    "BadRequestError",
    "Checkpoint",
    "CheckpointFile",
    "CheckpointFilesResponse",
    "CheckpointPath",
    "ClientClosedError",
    "ComposedFuture",
    "ConnectionFailedError",
    "Datum",
    "DeploymentFailedError",
    "EncodedTextChunk",
    "ForwardBackwardFuture",
    "ForwardBackwardOutput",
    "GetInfoResponse",
    "ImageChunk",
    "InitTrainerServerResponse",
    "InvalidInputError",
    "LoadWeightsResponse",
    "LocalDeployment",
    "LoopsError",
    "LoraConfig",
    "LossFn",
    "ModelInput",
    "NotFoundError",
    "OperationFuture",
    "OperationTimeoutError",
    "OptimStepResponse",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "RemoteOpError",
    "RequestTimeoutError",
    "SampleResult",
    "SampledSequence",
    "SamplingClient",
    "SamplingParams",
    "SaveWeightsResponse",
    "ServerFailureError",
    "ServerShutdownError",
    "ServiceClient",
    "StatusError",
    "TensorData",
    "TrainingClient",
    "UnknownRequestError",
    "UnretrievedErrorWarning",
    "WeightsNotReadyError",
    "from_dict",
    "to_dict",
]
