"""The values of the namespace. They are values of its own, turned into those of `loops_sdk` where the clients meet it.

What the original has for requests of its own wire, or for services that Loops has no counterpart of, is left out on
purpose; asking for it says why.
"""

from __future__ import annotations

from typing import NoReturn

from loops_sdk_sync.tinker.types.checkpoint import (
    Checkpoint,
    CheckpointsListResponse,
    CheckpointType,
    Cursor,
    ExternalWeightsUrlsResponse,
    ParsedCheckpointTinkerPath,
)
from loops_sdk_sync.tinker.types.datum import Datum
from loops_sdk_sync.tinker.types.dmel_chunk import DmelChunk
from loops_sdk_sync.tinker.types.encoded_text_chunk import EncodedTextChunk
from loops_sdk_sync.tinker.types.forward_backward_output import ForwardBackwardInput, ForwardBackwardOutput
from loops_sdk_sync.tinker.types.image_asset_pointer_chunk import ImageAssetPointerChunk
from loops_sdk_sync.tinker.types.image_chunk import ImageChunk
from loops_sdk_sync.tinker.types.lora_config import LoraConfig
from loops_sdk_sync.tinker.types.loss_fn_type import (
    CustomLossInput,
    CustomLossInputRank,
    LossFnInputs,
    LossFnOutput,
    LossFnType,
)
from loops_sdk_sync.tinker.types.model_input import ModelInput
from loops_sdk_sync.tinker.types.model_input_chunk import ModelInputChunk
from loops_sdk_sync.tinker.types.optim_step_response import OptimStepResponse
from loops_sdk_sync.tinker.types.optimizer import (
    AdamOptimizerConfig,
    AdamParams,
    DimuonOptimizerConfig,
    DimuonParams,
    OptimizerConfig,
    OptimParams,
    OptimStepRequest,
)
from loops_sdk_sync.tinker.types.provenance_spans import PromptProvenanceSpan, ProvenanceSpans, SampledProvenanceSpan
from loops_sdk_sync.tinker.types.request_error_category import RequestErrorCategory
from loops_sdk_sync.tinker.types.sample_request import SampleRequest
from loops_sdk_sync.tinker.types.sample_response import PromptAltTokens, SampleResponse
from loops_sdk_sync.tinker.types.sampled_sequence import SampledSequence, StopReason
from loops_sdk_sync.tinker.types.sampling_params import SamplingParams
from loops_sdk_sync.tinker.types.save_weights_response import (
    LoadWeightsResponse,
    SamplingClientKind,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
)
from loops_sdk_sync.tinker.types.tensor_data import TensorData, TensorDtype
from loops_sdk_sync.tinker.types.topk_logprobs import TopkLogprobs
from loops_sdk_sync.tinker.types.training_run import (
    GetInfoResponse,
    GetSamplerResponse,
    GetServerCapabilitiesResponse,
    GetSessionResponse,
    ListSessionsResponse,
    ModelData,
    ModelID,
    SupportedModel,
    TrainingRun,
    TrainingRunsResponse,
    UnloadModelResponse,
    WeightsInfoResponse,
)

__all__ = [
    "AdamOptimizerConfig",
    "AdamParams",
    "Checkpoint",
    "CheckpointType",
    "CheckpointsListResponse",
    "Cursor",
    "CustomLossInput",
    "CustomLossInputRank",
    "Datum",
    "DimuonOptimizerConfig",
    "DimuonParams",
    "DmelChunk",
    "EncodedTextChunk",
    "ExternalWeightsUrlsResponse",
    "ForwardBackwardInput",
    "ForwardBackwardOutput",
    "GetInfoResponse",
    "GetSamplerResponse",
    "GetServerCapabilitiesResponse",
    "GetSessionResponse",
    "ImageAssetPointerChunk",
    "ImageChunk",
    "ListSessionsResponse",
    "LoadWeightsResponse",
    "LoraConfig",
    "LossFnInputs",
    "LossFnOutput",
    "LossFnType",
    "ModelData",
    "ModelID",
    "ModelInput",
    "ModelInputChunk",
    "OptimParams",
    "OptimStepRequest",
    "OptimStepResponse",
    "OptimizerConfig",
    "ParsedCheckpointTinkerPath",
    "PromptAltTokens",
    "PromptProvenanceSpan",
    "ProvenanceSpans",
    "RequestErrorCategory",
    "SampleRequest",
    "SampleResponse",
    "SampledProvenanceSpan",
    "SampledSequence",
    "SamplingClientKind",
    "SamplingParams",
    "SaveWeightsForSamplerResponse",
    "SaveWeightsResponse",
    "StopReason",
    "SupportedModel",
    "TensorData",
    "TensorDtype",
    "TopkLogprobs",
    "TrainingRun",
    "TrainingRunsResponse",
    "UnloadModelResponse",
    "WeightsInfoResponse",
]

#: What is left out, by reason.
_LEFT_OUT = {
    "it belongs to the wire of Tinker's service; Loops has a protocol of its own": """
        ClientConfigRequest ClientConfigResponse ClientDynamicConfigResponse CopyWeightsRequest CopyWeightsResponse
        CreateModelRequest CreateModelResponse CreateSamplingSessionRequest CreateSamplingSessionResponse
        CreateSessionRequest CreateSessionResponse ForwardBackwardRequest ForwardRequest FutureCompletion FutureFailed
        FutureFinished FutureRetrieveRequest FutureRetrieveResponse FuturesRetrieveRequest FuturesRetrieveResponse
        GetInfoRequest HealthResponse JoinSamplingSessionRequest JoinSamplingSessionResponse LoadWeightsRequest
        RequestFailedResponse RequestID SamplingSessionFuturesTarget SaveWeightsExternalRequest
        SaveWeightsForSamplerRequest SaveWeightsForSamplerResponseInternal SaveWeightsRequest UnloadModelRequest
        UntypedAPIFuture""",
    "it belongs to Tinker's accounts, billing and audit log, which Loops has no counterpart of": """
        AuditLogEntry AuditLogResponse AuthTokenResponse BillingEventInfo BillingUsageEvent BillingUsageResponse
        BillingUsageSession CheckpointBillingEvent CurrentCheckpointStorageUsageItem
        CurrentCheckpointStorageUsageResponse GetBillingUsageRequest GetCurrentCheckpointStorageUsageRequest
        SamplingPrefillBillingEvent SamplingSampleBillingEvent StorageBillingEvent TrainingBillingEvent
        WhoamiResponse""",
    "it belongs to Tinker's telemetry, and this package sends none": """
        EventType SessionEndEvent SessionStartEvent Severity TelemetryBatch TelemetryEvent
        TelemetryResponse TelemetrySendRequest UnhandledExceptionEvent""",
    "it belongs to Tinker's search for, and watch over, sessions, which Loops has no counterpart of": """
        AccessibleSearchOwner ActiveSessionStatusQuery CancelledSessionStatusQuery ClientFinishedSessionStatusQuery
        ClientSessionFinishErrored ClientSessionFinishInterrupted ClientSessionFinishReason
        ClientSessionFinishReasonType ClientSessionFinishSuccess ClientSessionFinished FailedSessionStatusQuery
        OwnSearchOwner SearchOwner SessionActive SessionCancelled SessionFailed SessionFailedReason
        SessionFailedRequestReason SessionFailedSamplingSessionReason SessionFailedTrainingRunReason
        SessionHeartbeatRequest SessionHeartbeatResponse SessionSearchCursor SessionSearchRequest SessionSearchResponse
        SessionStatus SessionStatusQuery SessionSummary UserSearchOwner""",
    "it belongs to losses that run on Tinker's servers; here a loss of your own runs in this process": """
        CreateCustomLossRequest CreateCustomLossResponse CustomLossGraph CustomLossNode""",
    "it belongs to weights that Tinker's servers export; `loops checkpoints download` makes a folder for PEFT": """
        SaveWeightsExternalResponse SaveWeightsExternalResponseInternal""",
}


def __getattr__(name: str) -> NoReturn:
    for reason, names in _LEFT_OUT.items():
        if name in names.split():
            raise AttributeError(f"tinker.types.{name} is left out on purpose: {reason}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
