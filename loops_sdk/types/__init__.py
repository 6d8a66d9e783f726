"""Frozen values: what goes into the calls of this package and what comes back. They know no network and no wire."""

from loops_sdk.types.capabilities import EnablementDetails, ServerCapabilities, SupportedModel
from loops_sdk.types.checkpoints import (
    Checkpoint,
    CheckpointFile,
    CheckpointFilesResponse,
    CheckpointPath,
    CheckpointSource,
    LoraConfig,
)
from loops_sdk.types.deployments import BasetenDeployment, Deployment, LocalDeployment
from loops_sdk.types.inputs import Datum, EncodedTextChunk, ImageChunk, ModelInput
from loops_sdk.types.losses import CustomArrayLoss, CustomLoss
from loops_sdk.types.sampling import SampledSequence, SampleResult, SamplingParams
from loops_sdk.types.sessions import (
    Deactivated,
    InstanceType,
    ModelDeployment,
    Run,
    Sampler,
    Session,
    Status,
    Team,
    TrainerDeployment,
    User,
)
from loops_sdk.types.tensors import TensorData
from loops_sdk.types.training import (
    AdamParams,
    ForwardBackwardOutput,
    GetInfoResponse,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    LossFn,
    OperationInfo,
    OptimStepResponse,
    SaveWeightsResponse,
    WandbConfig,
)

__all__ = [
    "AdamParams",
    "BasetenDeployment",
    "Checkpoint",
    "CheckpointFile",
    "CheckpointFilesResponse",
    "CheckpointPath",
    "CheckpointSource",
    "CustomArrayLoss",
    "CustomLoss",
    "Datum",
    "Deactivated",
    "Deployment",
    "EnablementDetails",
    "EncodedTextChunk",
    "ForwardBackwardOutput",
    "GetInfoResponse",
    "ImageChunk",
    "InitTrainerServerResponse",
    "InstanceType",
    "LoadWeightsResponse",
    "LocalDeployment",
    "LoraConfig",
    "LossFn",
    "ModelDeployment",
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
    "Session",
    "Status",
    "SupportedModel",
    "Team",
    "TensorData",
    "TrainerDeployment",
    "User",
    "WandbConfig",
]
