"""What a pass over data takes: checked before anything is sent, and copied where the caller could still change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from loops_sdk._wire import codec
from loops_sdk._wire.bodies import ForwardBackwardBody
from loops_sdk.errors import InvalidInputError
from loops_sdk.types import Datum, LossFn
from loops_sdk.types._checks import nearest

_LOSSES: tuple[str, ...] = get_args(LossFn)


def pass_body(data: Sequence[Datum], loss_fn: str, loss_fn_config: Mapping[str, Any] | None) -> ForwardBackwardBody:
    """The request of a pass.

    Raises:
        InvalidInputError: no batch, no such loss, or settings that JSON cannot say.
    """
    batch = batch_of(data)
    if loss_fn not in _LOSSES:
        raise InvalidInputError(
            f"loss_fn: expected one of {', '.join(_LOSSES)}, got {loss_fn!r}{nearest(loss_fn, _LOSSES)}"
        )
    if loss_fn_config is not None and not isinstance(loss_fn_config, Mapping):
        raise InvalidInputError(f"loss_fn_config: expected a dict or None, got {type(loss_fn_config).__name__}")
    config = None if loss_fn_config is None else _plain("loss_fn_config", loss_fn_config)
    return ForwardBackwardBody(batch, loss_fn, config)


def batch_of(data: Sequence[Datum]) -> list[Datum]:
    """A list of one datum at least."""
    if not isinstance(data, Sequence):
        way = "; one of them is [datum]" if type(data) is Datum else ""
        raise InvalidInputError(f"data: expected a list of Datum, got {type(data).__name__}{way}")
    if not data:
        raise InvalidInputError("data: expected at least one Datum, got an empty list")
    for index, datum in enumerate(data):
        if not isinstance(datum, Datum):
            raise InvalidInputError(f"data[{index}]: expected Datum, got {type(datum).__name__}")
    return list(data)


def tokens_in(data: Sequence[Datum]) -> int:
    """Number of positions."""
    return sum(datum.model_input.length for datum in data)


def numbers_in(data: Sequence[Datum]) -> int:
    """How much there is to encode: all positions, of the input and of every tensor beside it."""
    return sum(datum.model_input.length * (1 + len(datum.loss_fn_inputs)) for datum in data)


def _plain(argument: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A private copy of what JSON can say."""
    try:
        copy: dict[str, Any] = codec.loads(codec.dumps(dict(value)))
    except InvalidInputError as error:
        raise InvalidInputError(f"{argument}: {error.message}") from None
    return copy
