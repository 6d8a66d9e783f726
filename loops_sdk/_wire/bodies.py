"""Request and reply bodies that are not themselves values of the public API. In a request, `None` means "not sent".

They are neither compared nor shown: methods that nobody calls would be compiled at every import.
"""

from __future__ import annotations

from typing import Any

import attrs

from loops_sdk.types import (
    AdamParams,
    Checkpoint,
    CheckpointSource,
    Datum,
    OperationInfo,
    Run,
    Sampler,
    Session,
    Team,
    TrainerDeployment,
)

# ---------------------------------------------------------------- requests


@attrs.define(eq=False, repr=False)
class CreateSessionBody:
    training_project_id: str | None = None


@attrs.define(eq=False, repr=False)
class ForwardBackwardBody:
    data: list[Datum]
    loss_fn: str = "cross_entropy"
    loss_fn_config: dict[str, Any] | None = None


@attrs.define(eq=False, repr=False)
class OptimStepBody:
    adam_params: AdamParams = attrs.field(factory=AdamParams)


@attrs.define(eq=False, repr=False)
class SaveBody:
    name: str
    trainer_server_id: str | None = None
    run_id: str | None = None
    ttl_seconds: int | None = None


@attrs.define(eq=False, repr=False)
class LoadBody:
    path: str


@attrs.define(eq=False, repr=False)
class InitBody:
    """The last three are an extension: a trainer that honours them says so in its answer."""

    lora_rank: int
    lora_alpha: int | None = None
    seed: int | None = None
    train_attn: bool | None = None
    train_mlp: bool | None = None
    train_unembed: bool | None = None


@attrs.define(eq=False, repr=False)
class CreateRunBody:
    """Both ``POST runs`` and ``POST trainers``; only the former knows `sampler_num_replicas`."""

    session_id: str
    base_model: str
    name: str | None = None
    max_seq_len: int | None = None
    lora_rank: int | None = None
    seed: int | None = None
    scale_down_delay_seconds: int | None = None
    availability_model: str | None = None
    replicas: int | None = None
    path: str | None = None
    reuse_from_run_id: str | None = None
    reuse_from_session_id: str | None = None
    sampler_num_replicas: int | None = None


@attrs.define(eq=False, repr=False)
class CreateSamplerBody:
    session_id: str
    base_model: str | None = None
    run_id: str | None = None
    max_seq_length: int | None = None
    model_path: str | None = None
    availability_model: str | None = None
    reuse_from_session_id: str | None = None
    num_replicas: int | None = None


@attrs.define(eq=False, repr=False)
class CompletionBody:
    """The subset of the OpenAI completions request, with vLLM's extensions, that a sampler is asked for."""

    model: str
    prompt: object  # token ids, in a list or an array; neither is looked into
    n: int = 1
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    seed: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    stop: list[str] | None = None
    stop_token_ids: list[int] | None = None
    return_tokens_as_token_ids: bool = False
    return_token_ids: bool = False


# ---------------------------------------------------------------- replies


@attrs.define(eq=False, repr=False)
class Accepted:
    operation_id: str


@attrs.define(eq=False, repr=False)
class OperationsReply:
    operations: list[OperationInfo]


@attrs.define(eq=False, repr=False)
class SessionReply:
    session: Session


@attrs.define(eq=False, repr=False)
class RunReply:
    run: Run


@attrs.define(eq=False, repr=False)
class RunsReply:
    runs: list[Run]


@attrs.define(eq=False, repr=False)
class SamplerReply:
    sampler: Sampler


@attrs.define(eq=False, repr=False)
class SamplersReply:
    samplers: list[Sampler]


@attrs.define(eq=False, repr=False)
class CheckpointsReply:
    checkpoints: list[Checkpoint]


@attrs.define(eq=False, repr=False)
class SourceReply:
    source: CheckpointSource


@attrs.define(eq=False, repr=False)
class DeploymentReply:
    deployment: TrainerDeployment


@attrs.define(eq=False, repr=False)
class DeploymentsReply:
    deployments: list[TrainerDeployment]


@attrs.define(eq=False, repr=False)
class TeamsReply:
    teams: list[Team]


@attrs.define(eq=False, repr=False)
class ModelCard:
    """An entry of ``/v1/models``. The base model has no `parent`; the first entry with one is the live adapter."""

    id: str
    parent: str | None = None
    max_model_len: int | None = None
    policy_version: int | None = None
    root: str | None = None
    object: str = "model"


@attrs.define(eq=False, repr=False)
class ModelList:
    data: list[ModelCard]
    object: str = "list"
