"""What stands in the data directory, as values."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import attrs

from loops_sdk.errors import InvalidInputError
from loops_sdk.types import Checkpoint, CheckpointPath

__all__ = ["Live", "RunRecord", "SamplerRecord", "Saved", "SavedFile", "TeamRecord", "checkpoint_path"]


@attrs.frozen
class TeamRecord:
    """The one team of a data directory, to which everything in it belongs."""

    id: str
    name: str
    created_at: datetime


@attrs.frozen
class RunRecord:
    """A run as it was asked for: everything its trainer has to know.

    Attributes:
        id, session_id, name, base_model, created_at: as the control plane reports them.
        lora_rank, seed: of the adapter; without a seed one is drawn.
        max_seq_len: longest sequence this run accepts, in tokens; `None` means the model's own limit.
        load_from: ``bt://`` address of the weights to start from.
        ended_at: when the run was deactivated or lost its trainer; its checkpoints stay.
        ended_as: what its deployment is since then: ``STOPPED``, ``SCALED_TO_ZERO`` or ``FAILED``.
        deployment_id: of what the trainer runs on; a run that takes over the trainer of another has the other's.
        availability_model: ``dedicated`` or ``spot``, as it was asked for.
        scale_down_delay_seconds: the run ends when nobody has asked anything of it for this long; `None` means never.
    """

    id: str
    session_id: str
    name: str
    base_model: str
    created_at: datetime
    lora_rank: int
    seed: int | None = None
    max_seq_len: int | None = None
    load_from: str | None = None
    ended_at: datetime | None = None
    ended_as: str | None = None
    deployment_id: str | None = None
    availability_model: str = "dedicated"
    scale_down_delay_seconds: int | None = None


@attrs.frozen
class SamplerRecord:
    """A sampler as it was asked for.

    Attributes:
        run_id: the run whose adapter it follows; `None` for a standalone sampler.
        model_path: ``bt://`` address of the one checkpoint that a standalone sampler serves besides the base model.
        max_seq_len: longest prompt plus continuation, in tokens; `None` means the model's own limit.
        model_id, deployment_id: of what it runs on.
    """

    id: str
    session_id: str
    base_model: str
    created_at: datetime
    run_id: str | None = None
    model_path: str | None = None
    max_seq_len: int | None = None
    model_id: str | None = None
    deployment_id: str | None = None


@attrs.frozen
class Saved:
    """A whole checkpoint on the disk.

    Attributes:
        checkpoint: what the control plane reports about it.
        folder: its files, a PEFT folder among them. They never change; saving under the same name makes another folder.
        policy_version: number of optimizer steps in its weights.
        expires_at: seconds since the epoch, `None` for never.
    """

    checkpoint: Checkpoint
    folder: Path
    policy_version: int
    expires_at: float | None = None


@attrs.frozen
class SavedFile:
    """One file of a checkpoint: its name below the checkpoint's folder, its size in bytes, when it was written."""

    name: str
    size_bytes: int
    modified_at: datetime


@attrs.frozen
class Live:
    """The pointer of a run: which adapter its sampler serves.

    Attributes:
        name: the checkpoint's name.
        folder: the PEFT folder, below the run's own folder.
        policy_version: number of optimizer steps in it.
    """

    name: str
    folder: str
    policy_version: int


def checkpoint_path(argument: str, path: str, kind: str) -> CheckpointPath:
    """The address of a checkpoint of this kind, taken apart.

    Raises:
        InvalidInputError: another kind, or no such address.
    """
    parsed = CheckpointPath.parse(path, argument)
    if parsed.kind != kind:
        raise InvalidInputError(f"{argument}: expected bt://loops:<run_id>/{kind}/<name>, got {path!r}")
    return parsed
