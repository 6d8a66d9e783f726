"""Text as it is being generated: decoded token by token, cut at the first stop string. Knows a decode function only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["StopText"]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
#: Tokens that may wait for the rest of a character, so that a stream of invalid bytes does not wait for ever.
_LONGEST_WAIT = 16


class StopText:
    """Grows by tokens until a stop string appears in it.

    Args:
        decode: token ids to text.
        stops: the stop strings, none of them empty.

    Attributes:
        text: what is certain so far, cut before the stop string once there is one.
        stopped: whether a stop string has appeared.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str]) -> None:
        self.text, self.stopped = "", False
        self._decode, self._stops = decode, stops
        self._overlap = max(map(len, stops), default=1) - 1
        # `_context` are the last tokens whose text is out: decoders treat the first token of a text differently.
        self._context: list[int] = []
        self._waiting: list[int] = []

    def push(self, token: int) -> bool:
        """Take one token; `True` once a stop string has appeared."""
        self._waiting.append(token)
        before, after = self._decode(self._context), self._decode(self._context + self._waiting)
        if after.endswith(_REPLACEMENT) and len(self._waiting) < _LONGEST_WAIT:
            return self.stopped
        return self._extend(after[len(before) :])

    def finish(self) -> bool:
        """No more tokens: let out what was waiting."""
        if not self._waiting:
            return self.stopped
        return self._extend(self._decode(self._context + self._waiting)[len(self._decode(self._context)) :])

    def _extend(self, piece: str) -> bool:
        self._context, self._waiting = self._waiting, []
        seen = max(0, len(self.text) - self._overlap)
        self.text += piece
        found = [at for stop in self._stops if (at := self.text.find(stop, seen)) >= 0]
        if found and not self.stopped:
            self.text, self.stopped = self.text[: min(found)], True
        return self.stopped
