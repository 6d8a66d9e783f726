"""What the control plane hands out: sessions, runs and samplers, with their states."""

from __future__ import annotations

from datetime import datetime

import attrs

__all__ = ["InstanceType", "Run", "Sampler", "Session", "Status", "User"]


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
    """A sampling server. `model_id` and `deployment_id` name what it runs on; both are `None` when it is serverless."""

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
    """A training run: one adapter on one trainer. `base_url` is the trainer's address; `sampler` is the paired
    sampler.
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
