"""What all ways to a training client or a sampler have in common, checked before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs

from loops_sdk.errors import InvalidInputError
from loops_sdk.types import WandbConfig
from loops_sdk.types._checks import check_int, check_number, check_text
from loops_sdk.types.checkpoints import check_name

_WARM_START = "LOOPS_WARM_START_SAMPLER"
_REUSE_SESSION = "LOOPS_REUSE_FROM_SESSION_ID"
_REUSE_RUN = "LOOPS_REUSE_FROM_RUN_ID"


@attrs.frozen
class TrainerOptions:
    """Keywords of the calls that make a training client."""

    timeout: float
    ready_timeout: float
    wandb_config: WandbConfig | None
    max_seq_len: int | None
    replicas: int | None
    name: str | None
    with_sampler: bool | None
    publish_timeout: float
    adapter: Mapping[str, Any] = attrs.field(factory=dict)  #: what the trainer itself is asked for, by keyword

    def __attrs_post_init__(self) -> None:
        for argument in ("timeout", "ready_timeout", "publish_timeout"):
            check_number(argument, getattr(self, argument), above=0)
        _check_counts(self)
        if self.name is not None:
            check_name("name", self.name)
        wandb = self.wandb_config
        if not (wandb is None or isinstance(wandb, WandbConfig)):
            raise InvalidInputError(f"wandb_config: expected WandbConfig or None, got {type(wandb).__name__}")


@attrs.frozen
class SamplerOptions:
    """Keywords of the call that makes a sampler of its own."""

    timeout: float
    ready_timeout: float
    max_seq_len: int | None
    replicas: int | None

    def __attrs_post_init__(self) -> None:
        for argument in ("timeout", "ready_timeout"):
            check_number(argument, getattr(self, argument), above=0)
        _check_counts(self)


def _check_counts(options: TrainerOptions | SamplerOptions) -> None:
    for argument in ("max_seq_len", "replicas"):
        if (number := getattr(options, argument)) is not None:
            check_int(argument, number, low=1)


def check_model(base_model: str, rank: int = 1, seed: int | None = None) -> None:
    """Refuse what cannot be a base model's name, an adapter's rank or a seed."""
    check_text("base_model", base_model)
    check_int("rank", rank, low=1)
    if seed is not None:
        check_int("seed", seed, low=0)


def warm_start() -> bool:
    """Whether ``LOOPS_WARM_START_SAMPLER`` asks for the paired sampler together with the trainer."""
    value = os.environ.get(_WARM_START, "false").lower()
    if value not in ("true", "false", "1", "0", ""):
        raise InvalidInputError(f"{_WARM_START}: expected true or false, got {value!r}")
    return value in ("true", "1")


@attrs.frozen
class Reuse:
    """Whose trainer and samplers to take over. Runs are asked with one of the two only; samplers know the session."""

    run_id: str | None
    session_id: str | None

    @classmethod
    def of(cls, session_id: str | None, run_id: str | None) -> Reuse:
        """From the keywords, else from the environment; a keyword leaves nothing of the environment.

        Raises:
            InvalidInputError: both keywords, or not an id.
        """
        if session_id is not None and run_id is not None:
            raise InvalidInputError("reuse_from_run_id: give this or reuse_from_session_id, not both")
        if session_id is not None:
            return cls(None, check_name("reuse_from_session_id", session_id))
        if run_id is not None:
            return cls(check_name("reuse_from_run_id", run_id), None)
        return cls(_id_in(_REUSE_RUN), _id_in(_REUSE_SESSION))

    @property
    def session_of_run(self) -> str | None:
        """What a run's body says of the session. The run's id goes first: the session's is the deprecated form."""
        return None if self.run_id is not None else self.session_id


def _id_in(variable: str) -> str | None:
    value = os.environ.get(variable)
    return check_name(variable, value) if value else None
