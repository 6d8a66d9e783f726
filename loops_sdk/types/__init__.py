"""Frozen values: what goes into the calls of this package and what comes back. They know no network and no wire."""

from loops_sdk.types.checkpoints import (
    Checkpoint,
    CheckpointFile,
    CheckpointFilesResponse,
    CheckpointPath,
    LoraConfig,
)
from loops_sdk.types.deployments import LocalDeployment
from loops_sdk.types.inputs import Datum, EncodedTextChunk, ImageChunk, ModelInput
from loops_sdk.types.sampling import SampledSequence, SampleResult, SamplingParams
from loops_sdk.types.sessions import InstanceType, Run, Sampler, Session, Status, User
from loops_sdk.types.tensors import TensorData
from loops_sdk.types.training import (
    AdamParams,
    ForwardBackwardOutput,
    GetInfoResponse,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    LossFn,
    OptimStepResponse,
    SaveWeightsResponse,
    WandbConfig,
)

__all__ = [
    "AdamParams",
    "Checkpoint",
    "CheckpointFile",
    "CheckpointFilesResponse",
    "CheckpointPath",
    "Datum",
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
    "ModelInput",
    "OptimStepResponse",
    "Run",
    "SampleResult",
    "SampledSequence",
    "Sampler",
    "SamplingParams",
    "SaveWeightsResponse",
    "Session",
    "Status",
    "TensorData",
    "User",
    "WandbConfig",
]
