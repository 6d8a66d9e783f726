"""What a trainer says of itself. Not every trainer does, so nothing here may be relied on to be there."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from loops_sdk._net.caller import Caller
from loops_sdk._wire.endpoints import STATUS
from loops_sdk.errors import NotFoundError

T = TypeVar("T")


@attrs.frozen
class TrainerStatus:
    """The part of ``/status`` that clients look at; `None` where the trainer says nothing."""

    base_model: str | None = None
    rank: int | None = None
    max_seq_len: int | None = None
    run_id: str | None = None

    @classmethod
    def of(cls, status: dict[str, Any]) -> TrainerStatus:
        """From the reply's body."""
        base_model, run_id = _as(str, status.get("base_model")), _as(str, status.get("run_id"))
        rank, max_seq_len = _as(int, status.get("lora_rank")), _as(int, status.get("max_seq_len"))
        return cls(base_model, rank, max_seq_len, run_id)


async def trainer_status(caller: Caller, trainer_url: str) -> TrainerStatus:
    """Ask the trainer at an address; one without this route says nothing."""
    try:
        return TrainerStatus.of(await caller.call(STATUS, STATUS.url(trainer_url)))
    except NotFoundError:
        return TrainerStatus()


def _as(kind: type[T], value: object) -> T | None:
    return value if isinstance(value, kind) and value and not isinstance(value, bool) else None
