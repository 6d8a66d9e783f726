"""What the control plane hands out: sessions, runs and samplers, with their states."""

from __future__ import annotations

from datetime import datetime

import attrs

__all__ = [
    "Deactivated",
    "InstanceType",
    "ModelDeployment",
    "Run",
    "Sampler",
    "Session",
    "Status",
    "Team",
    "TrainerDeployment",
    "User",
]


@attrs.frozen
class Session:
    """A session: the bracket around the runs and samplers of one program."""

    id: str


@attrs.frozen
class User:
    """Who made a resource."""

    email: str | None = None


@attrs.frozen
class Status:
    """A state by name. New names may appear at any time, so this is plain text."""

    name: str


@attrs.frozen
class InstanceType:
    """The machine a deployment runs on; memory in MiB, processors in thousandths of a core."""

    id: str
    name: str
    memory_limit_mib: int
    millicpu_limit: int
    gpu_count: int
    gpu_type: str | None = None
    gpu_memory_limit_mib: int | None = None


@attrs.frozen
class Sampler:
    """A sampling server.

    Attributes:
        id: the service's id of it.
        base_url: its address.
        base_model: name of its base model.
        created_at: when it was made, with time zone.
        status: its state: ``ACTIVE``, ``SCALED_TO_ZERO``, ``LOADING_MODEL``, ``BUILD_FAILED`` or another.
        user: who made it.
        model_id, deployment_id: what it runs on; both are `None` when it is serverless.
        instance_type: the machine it runs on, when that is told.
        node_count: number of such machines.
    """

    id: str
    base_url: str
    base_model: str
    created_at: datetime
    status: Status
    user: User = attrs.field(factory=User)
    model_id: str | None = None
    deployment_id: str | None = None
    instance_type: InstanceType | None = None
    node_count: int = 1


@attrs.frozen
class Run:
    """A training run: one adapter on one trainer.

    Attributes:
        id: the service's id of it, as in ``bt://loops:<id>/weights/<name>``.
        session_id: the session in which it was made.
        name: the name it was given; by default that of the base model.
        base_model: name of the base model.
        base_url: the trainer's address.
        created_at: when it was made, with time zone.
        status: ``ACTIVE``, or ``INACTIVE`` once it was replaced or shut down.
        user: who made it.
        deployment_id: what the trainer runs on.
        lora_config_version: version of the adapter's description, when that is told.
        sampler: the paired sampler, once there is one.
    """

    id: str
    session_id: str
    name: str
    base_model: str
    base_url: str
    created_at: datetime
    status: Status
    user: User = attrs.field(factory=User)
    deployment_id: str | None = None
    lora_config_version: str | None = None
    sampler: Sampler | None = None


@attrs.frozen
class Deactivated:
    """A resource that was told to stop."""

    id: str
    base_model: str
    user: User = attrs.field(factory=User)


@attrs.frozen
class TrainerDeployment:
    """What a run's trainer runs on; it may outlive runs. States: ``CREATED``, ``DEPLOYING``, ``RUNNING``,
    ``SCALED_TO_ZERO``, ``FAILED``, ``STOPPED``, ``PREEMPTED``.
    """

    id: str
    base_model: str
    base_url: str
    created_at: datetime
    status: Status
    user: User = attrs.field(factory=User)
    active_run_id: str | None = None
    latest_run_id: str | None = None
    availability_model: str = "dedicated"
    instance_type: InstanceType | None = None
    node_count: int = 1
    sampler: Sampler | None = None


@attrs.frozen
class ModelDeployment:
    """What a sampler runs on. `status` is a plain name here: ``ACTIVE``, ``SCALED_TO_ZERO``, ``WAKING_UP``,
    ``LOADING_MODEL``, ``BUILD_FAILED``, ...
    """

    id: str
    model_id: str
    status: str
    name: str = ""
    active_replica_count: int = 0


@attrs.frozen
class Team:
    """A team, to whom sessions, runs and samplers may belong."""

    id: str
    name: str
