"""Ways to a `Datum`: from plain token ids, and from what holds one in another form.

The service's package has a module of this name, and no public script shows what is in it. What is here are the
conversions that scripts write by hand around `Datum`; a name that a script misses here is an ImportError that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loops_sdk import InvalidInputError
from loops_sdk_sync.baseten.models import Datum, ModelInput, TensorData, model_validate

__all__ = ["as_datum", "datum_from_tokens"]


def datum_from_tokens(tokens: Any, weights: Any = None) -> Datum:
    """A datum that teaches a sequence: each token is the target of the one before it.

    Args:
        tokens: token ids of the whole sequence, at least two (list, tuple, numpy or torch integers).
        weights: how much each token counts as a target, one number per token (list, tuple, numpy or torch), 0.0 for
            those of a prompt; default: all count 1.0. The first is never a target, so its weight says nothing.

    Raises:
        InvalidInputError: fewer than two tokens, tokens that are no whole numbers, or another number of weights.
    """
    ids = ModelInput.from_ints(tokens).to_ints()
    if len(ids) < 2:
        raise InvalidInputError(f"tokens: expected at least two, a target needs one before it; got {len(ids)}")
    inputs: dict[str, Any] = {"target_tokens": ids[1:]}
    if weights is not None:
        numbers = TensorData(weights, dtype="float32")
        if numbers.shape != (len(ids),):
            raise InvalidInputError(f"weights: expected one per token, {len(ids)}, got shape {list(numbers.shape)}")
        inputs["weights"] = numbers.to_numpy()[1:]
    return Datum(ModelInput.from_ints(ids[:-1]), inputs)


def as_datum(value: Any) -> Datum:
    """The datum that `value` is or describes.

    Args:
        value: a `Datum`; its `model_dump`, also after a way through JSON; or any object with such a `model_dump`, a
            Tinker datum for example.

    Raises:
        InvalidInputError: something else, or of another shape.
    """
    plain = value.model_dump() if not isinstance(value, Datum) and hasattr(value, "model_dump") else value
    if not isinstance(plain, Datum | Mapping):
        raise InvalidInputError(f"value: expected a Datum or the model_dump of one, got {type(plain).__name__}")
    return model_validate(Datum, plain)
