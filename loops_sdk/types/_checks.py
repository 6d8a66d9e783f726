"""Validators for attrs fields whose messages name the field, what was given and what is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs

from loops_sdk.errors import InvalidInputError

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def check_number(
    name: str, value: object, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> None:
    """Require a finite number with ``low <= value <= high`` and ``value > above``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInputError(f"{name}: expected a finite number, got {value!r}")
    if not (low <= value <= high and value > above):
        raise InvalidInputError(f"{name}: expected {_bounds(low, high, above)}, got {value!r}")


def check_int(name: str, value: object, *, low: int | None = None, high: int | None = None) -> None:
    """Require a whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{name}: expected a whole number, got {value!r}")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = _bounds(-math.inf if low is None else low, math.inf if high is None else high, -math.inf)
        raise InvalidInputError(f"{name}: expected {bounds}, got {value!r}")


def check_text(name: str, value: object, *, most: int = 4096) -> None:
    """Require a non-empty string of at most `most` characters."""
    if not isinstance(value, str) or not value or len(value) > most:
        raise InvalidInputError(f"{name}: expected a non-empty string of at most {most} characters, got {value!r}")


def number(*, low: float = -math.inf, high: float = math.inf, above: float = -math.inf) -> Validator:
    return lambda _self, attribute, value: check_number(attribute.name, value, low=low, high=high, above=above)


def whole(*, low: int | None = None, high: int | None = None) -> Validator:
    return lambda _self, attribute, value: check_int(attribute.name, value, low=low, high=high)


def _bounds(low: float, high: float, above: float) -> str:
    parts = [f"> {above:g}"] if above > -math.inf else []
    parts += [f">= {low:g}"] if low > -math.inf else []
    parts += [f"<= {high:g}"] if high < math.inf else []
    return "a value " + " and ".join(parts)
