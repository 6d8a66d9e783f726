"""What a fresh adapter may be asked to be, and whether the trainer says that it is that."""

from __future__ import annotations

from typing import Any

from loops_sdk._wire.bodies import InitBody
from loops_sdk.errors import InvalidInputError, UnsupportedError
from loops_sdk.types import InitTrainerServerResponse
from loops_sdk.types._checks import check_int, shown

_PARTS = ("train_attn", "train_mlp", "train_unembed")
_UNCREATED = ("lora_alpha", *_PARTS)  #: what the creation of a run cannot say


def init_body(
    lora_rank: int,
    *,
    lora_alpha: int | None = None,
    seed: int | None = None,
    train_attn: bool | None = None,
    train_mlp: bool | None = None,
    train_unembed: bool | None = None,
) -> InitBody:
    """The request for a fresh adapter; `None` leaves a choice to the trainer.

    Raises:
        InvalidInputError: naming the argument.
    """
    check_int("lora_rank", lora_rank, low=1)
    if lora_alpha is not None:
        check_int("lora_alpha", lora_alpha, low=1)
    if seed is not None:
        check_int("seed", seed, low=0)
    parts = (train_attn, train_mlp, train_unembed)
    for name, value in zip(_PARTS, parts, strict=True):
        if not (value is None or isinstance(value, bool)):
            raise InvalidInputError(f"{name}: expected True, False or None, got {shown(value)}")
    if parts == (False, False, False):
        raise InvalidInputError(f"{', '.join(_PARTS)}: all are False, so nothing would be trained")
    return InitBody(lora_rank, lora_alpha, seed, *parts)


def beyond_creation(asked: InitBody) -> dict[str, Any]:
    """What of it must be asked of the trainer, because the control plane takes a rank and a seed only."""
    return {name: value for name in _UNCREATED if (value := getattr(asked, name)) is not None}


def confirm(asked: InitBody, told: InitTrainerServerResponse) -> None:
    """Return if the trainer confirms everything that was asked for. A seed it may keep to itself.

    Raises:
        UnsupportedError: naming what it does not confirm.
    """
    for name in ("lora_alpha", "seed", *_PARTS):
        wanted, got = getattr(asked, name), getattr(told, name)
        if wanted is None or got == wanted or (name == "seed" and got is None):
            continue
        said = "does not confirm it" if got is None else f"says {got!r}"
        raise UnsupportedError(
            f"{name}: {wanted!r} was asked for, but the trainer {said}; it has a fresh adapter of its own choice now. "
            f"Start over without {name}, or with a trainer that honours it",
            operation="init_trainer_server",
        )
