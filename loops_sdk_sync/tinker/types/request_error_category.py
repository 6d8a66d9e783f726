"""Whose fault a failed operation is."""

from __future__ import annotations

from enum import StrEnum, auto

__all__ = ["RequestErrorCategory"]


class RequestErrorCategory(StrEnum):
    """Whose fault a failed operation is: the server's, the caller's, or nobody said."""

    Unknown = auto()
    Server = auto()
    User = auto()
