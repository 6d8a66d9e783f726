"""What a server knows of runs, sessions, samplers and models."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import attrs

from loops_sdk_sync.tinker.types._model import OpenModel
from loops_sdk_sync.tinker.types.checkpoint import Checkpoint, Cursor
from loops_sdk_sync.tinker.types.optimizer import AdamOptimizerConfig, OptimizerConfig

__all__ = [
    "GetInfoResponse",
    "GetSamplerResponse",
    "GetServerCapabilitiesResponse",
    "GetSessionResponse",
    "ListSessionsResponse",
    "ModelData",
    "ModelID",
    "SupportedModel",
    "TrainingRun",
    "TrainingRunsResponse",
    "UnloadModelResponse",
    "WeightsInfoResponse",
]

#: The id of a model in training: that of its run.
ModelID: TypeAlias = str


class TrainingRun(OpenModel):
    """A run.

    Attributes:
        training_run_id: its id.
        base_model: name of the model that it trains.
        model_owner: who owns what it trains.
        is_lora: whether it trains an adapter; all runs of Loops do.
        corrupted: whether it cannot go on.
        lora_rank: rank of the adapter.
        last_request_time: when it was last asked for something.
        last_checkpoint: newest checkpoint of the training state.
        last_sampler_checkpoint: newest checkpoint of the adapter alone.
        user_metadata: what was noted down with it.
    """

    training_run_id: str
    base_model: str
    model_owner: str
    is_lora: bool
    corrupted: bool = False
    lora_rank: int | None = None
    last_request_time: datetime
    last_checkpoint: Checkpoint | None = None
    last_sampler_checkpoint: Checkpoint | None = None
    user_metadata: dict[str, str] | None = None


class TrainingRunsResponse(OpenModel):
    """A page of runs.

    Attributes:
        training_runs: those of this page.
        cursor: where it lies.
    """

    training_runs: list[TrainingRun]
    cursor: Cursor


class ModelData(OpenModel):
    """What is known of a model.

    Attributes:
        arch: name of its architecture.
        model_name: its name.
        tokenizer_id: name of its tokenizer.
    """

    arch: str | None = None
    model_name: str | None = None
    tokenizer_id: str | None = None


class GetInfoResponse(OpenModel):
    """What a training client knows of its model.

    Attributes:
        type: ``"get_info"``.
        model_data: what is known of the model.
        model_id: id of the run.
        optimizer_config: the optimizer.
        is_lora: whether an adapter is trained.
        lora_rank: its rank.
        model_name: name of the base model.
    """

    type: Literal["get_info"] | None = None
    model_data: ModelData
    model_id: ModelID
    optimizer_config: OptimizerConfig = attrs.field(default=AdamOptimizerConfig())
    is_lora: bool | None = None
    lora_rank: int | None = None
    model_name: str | None = None


class WeightsInfoResponse(OpenModel):
    """What must be known to make a training client from a checkpoint.

    Attributes:
        base_model: name of the base model.
        optimizer_config: the optimizer.
        is_lora: whether the checkpoint holds an adapter.
        lora_rank: its rank.
        train_unembed, train_mlp, train_attn: which parts have an adapter; `None` when that is not known.
    """

    base_model: str
    optimizer_config: OptimizerConfig = attrs.field(default=AdamOptimizerConfig())
    is_lora: bool
    lora_rank: int | None = None
    train_unembed: bool | None = None
    train_mlp: bool | None = None
    train_attn: bool | None = None


class SupportedModel(OpenModel):
    """A model that a server has.

    Attributes:
        model_name: its name.
        max_context_length: most tokens of a sequence.
        trainable: whether it can be trained.
        sampleable: whether it can be sampled from.
    """

    model_name: str | None = None
    max_context_length: int | None = None
    trainable: bool | None = None
    sampleable: bool | None = None


class GetServerCapabilitiesResponse(OpenModel):
    """What a server can do.

    Attributes:
        supported_models: the models that it has.
    """

    supported_models: list[SupportedModel]


class GetSamplerResponse(OpenModel):
    """A sampler.

    Attributes:
        sampler_id: its id.
        base_model: name of the base model.
        model_path: the checkpoint that it samples from; `None` means the base model.
    """

    sampler_id: str
    base_model: str
    model_path: str | None = None


class GetSessionResponse(OpenModel):
    """A session.

    Attributes:
        training_run_ids: its runs.
        sampler_ids: its samplers.
        user_metadata: what was noted down with it.
        display_name: what it is shown as.
    """

    training_run_ids: list[ModelID]
    sampler_ids: list[str]
    user_metadata: dict[str, str] | None = None
    display_name: str | None = None


class ListSessionsResponse(OpenModel):
    """Sessions.

    Attributes:
        sessions: their ids.
    """

    sessions: list[str]


class UnloadModelResponse(OpenModel):
    """The end of a run.

    Attributes:
        model_id: id of the run.
        type: ``"unload_model"``.
    """

    model_id: ModelID
    type: Literal["unload_model"] | None = None
