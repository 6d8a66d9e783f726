"""Validators for attrs fields whose messages name the field, what was given and what is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, SupportsFloat, SupportsIndex
from urllib.parse import urlsplit

import attrs

from loops_sdk.errors import InvalidInputError

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def shown(value: object, most: int = 60) -> str:
    """What was given, for a message: its `repr`, cut where it gets long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def nearest(given: object, known: Iterable[str]) -> str:
    """The name that was probably meant, as the end of a message; nothing when none comes close."""
    from difflib import get_close_matches

    close = get_close_matches(given.lower(), list(known), 1) if isinstance(given, str) and len(given) < 256 else []
    return f"; did you mean {close[0]!r}?" if close and close[0] != given else ""


def check_number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Require a finite number with ``low <= value <= high`` and ``above < value < below``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise InvalidInputError(f"{name}: expected a finite number, got {shown(value)}")
    if not (low <= value <= high and above < value < below):
        raise InvalidInputError(f"{name}: expected {_bounds(low, high, above, below)}, got {shown(value)}")


def as_real(value: SupportsFloat) -> Any:
    """A number of numpy or torch, as schedules compute them, as a plain one; anything else as it is."""
    return _plain(value)


def as_whole(value: SupportsIndex | None) -> Any:
    """The same for whole numbers."""
    return _plain(value)


def as_number(name: str, value: Any) -> float:
    """A float of whatever stands for one number: also numpy's and torch's."""
    try:
        if isinstance(value, bool | str) or not hasattr(value, "__float__"):
            raise TypeError
        return float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InvalidInputError(f"{name}: expected a number, got {shown(value)}") from None


def _plain(value: Any) -> Any:
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of floats
        return False


def check_int(name: str, value: object, *, low: int | None = None, high: int | None = None) -> None:
    """Require a whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{name}: expected a whole number, got {shown(value)}")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = _bounds(-math.inf if low is None else low, math.inf if high is None else high)
        raise InvalidInputError(f"{name}: expected {bounds}, got {shown(value)}")


def check_text(name: str, value: object, *, most: int = 4096) -> None:
    """Require a non-empty string of at most `most` characters."""
    if not isinstance(value, str) or not value or len(value) > most:
        raise InvalidInputError(f"{name}: expected a non-empty string of at most {most} characters, got {shown(value)}")


def check_address(name: str, value: object) -> None:
    """Require an ``http://`` or ``https://`` address with a host and without credentials, which would end up in
    logs.
    """
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        good = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        bare = isinstance(value, str) and value and "://" not in value
        way = f"; did you mean http://{str(value)[:60]}?" if bare else ""
        raise InvalidInputError(f"{name}: expected an http:// or https:// address, got {shown(value)}{way}")
    if "@" in urlsplit(str(value)).netloc:
        hidden = "it is not shown here; a key is given as api_key"
        raise InvalidInputError(f"{name}: expected an address without user and password ({hidden})")


def number(**bounds: float) -> Validator:
    return lambda _self, attribute, value: check_number(attribute.name, value, **bounds)


def whole(*, low: int | None = None, high: int | None = None) -> Validator:
    return lambda _self, attribute, value: check_int(attribute.name, value, low=low, high=high)


def text(*, most: int = 4096) -> Validator:
    return lambda _self, attribute, value: check_text(attribute.name, value, most=most)


def _bounds(low: float, high: float, above: float = -math.inf, below: float = math.inf) -> str:
    bounds = ((">", above), (">=", low), ("<", below), ("<=", high))
    return "a value " + " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if math.isfinite(bound))
