"""What may be asked for: the limits of every field of a create, and the records that are made of it.

Fields that only a cluster can honour (replicas, availability) are checked, kept, and otherwise play no part: there is
one machine. It knows no HTTP and nothing of who serves what.
"""

from __future__ import annotations

from datetime import UTC, datetime

from loops_sdk._wire.bodies import CreateRunBody, CreateSamplerBody
from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import MOST_RANK
from loops_sdk.local.storage import RunRecord, SamplerRecord, new_id
from loops_sdk.types.checkpoints import check_name

__all__ = [
    "check_paired",
    "check_run",
    "check_sampler",
    "paired_record",
    "run_record",
    "sampler_record",
]

_RANK = 64
_MOST_SEED = 2**63 - 1
_LONGEST_DELAY = 3600


def check_run(body: CreateRunBody, max_seq_len: int) -> None:
    """Refuse fields that are out of range.

    Args:
        max_seq_len: longest sequence that the deployment takes.

    Raises:
        InvalidInputError: naming the field, what was given and what is wanted.
    """
    if body.name is not None and not 1 <= len(body.name) <= 255:
        raise InvalidInputError(f"name: expected 1 to 255 characters, got {len(body.name)}")
    _check_range("max_seq_len", body.max_seq_len, 1, max_seq_len)
    _check_range("lora_rank", body.lora_rank, 1, MOST_RANK)
    _check_range("seed", body.seed, 0, _MOST_SEED)
    _check_range("scale_down_delay_seconds", body.scale_down_delay_seconds, 1, _LONGEST_DELAY)
    _check_range("replicas", body.replicas, 1, None)
    _check_range("sampler_num_replicas", body.sampler_num_replicas, 1, None)
    _check_availability(body.availability_model)
    _check_reuse(body.reuse_from_run_id, body.reuse_from_session_id)


def check_sampler(body: CreateSamplerBody, max_seq_len: int) -> None:
    """Refuse fields that are out of range; as `check_run`."""
    if body.base_model is None and body.run_id is None and body.model_path is None:
        raise InvalidInputError("base_model: a standalone sampler needs base_model or model_path")
    _check_range("max_seq_length", body.max_seq_length, 1, max_seq_len)
    _check_range("num_replicas", body.num_replicas, 1, None)
    _check_availability(body.availability_model)
    _check_reuse(None, body.reuse_from_session_id)


def check_paired(body: CreateSamplerBody, run: RunRecord) -> None:
    """Refuse a sampler that does not suit the run it is to be paired with.

    Raises:
        InvalidInputError: as `check_run`.
    """
    if body.availability_model not in (None, run.availability_model):
        wanted = f"{run.availability_model!r}, as run {run.id!r} has it"
        raise InvalidInputError(f"availability_model: expected {wanted}, got {body.availability_model!r}")


def run_record(body: CreateRunBody) -> RunRecord:
    """A new run, on a deployment of its own."""
    return RunRecord(
        id=new_id(7),
        session_id=body.session_id,
        name=body.name or body.base_model,
        base_model=body.base_model,
        created_at=datetime.now(UTC),
        lora_rank=body.lora_rank or _RANK,
        seed=body.seed,
        max_seq_len=body.max_seq_len,
        load_from=body.path,
        deployment_id=new_id(8),
        availability_model=body.availability_model or "dedicated",
        scale_down_delay_seconds=body.scale_down_delay_seconds,
    )


def sampler_record(body: CreateSamplerBody, base_model: str) -> SamplerRecord:
    """A new sampler, on a deployment of its own."""
    return SamplerRecord(
        id=new_id(7),
        session_id=body.session_id,
        base_model=base_model,
        created_at=datetime.now(UTC),
        run_id=body.run_id,
        model_path=body.model_path,
        max_seq_len=body.max_seq_length,
        model_id=new_id(8),
        deployment_id=new_id(7),
    )


def paired_record(run: RunRecord, max_seq_len: int | None) -> SamplerRecord:
    """A new sampler that follows a run."""
    body = CreateSamplerBody(run.session_id, run_id=run.id, max_seq_length=max_seq_len)
    return sampler_record(body, run.base_model)


def _check_range(name: str, value: int | None, low: int, high: int | None) -> None:
    if value is not None and (value < low or (high is not None and value > high)):
        bounds = f">= {low}" if high is None else f"from {low} to {high}"
        raise InvalidInputError(f"{name}: expected a whole number {bounds}, got {value}")


def _check_availability(value: str | None) -> None:
    if value not in (None, "dedicated", "spot"):
        raise InvalidInputError(f"availability_model: expected 'dedicated' or 'spot', got {value!r}")


def _check_reuse(run_id: str | None, session_id: str | None) -> None:
    """An id that nobody has is no mistake, for reuse is done where it can be done; what cannot be an id is one."""
    if run_id is not None:
        check_name("reuse_from_run_id", run_id)
    if session_id is not None:
        check_name("reuse_from_session_id", session_id)
