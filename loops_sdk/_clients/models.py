"""Which model a sampler's requests must name: read from the sampler, never assumed, and never one question too many."""

from __future__ import annotations

import time

from loops_sdk._net.caller import READS, Caller, Patience
from loops_sdk._wire.bodies import ModelCard, ModelList
from loops_sdk._wire.endpoints import MODELS
from loops_sdk.errors import ProtocolError, WeightsNotReadyError

#: While a sampler shows no adapter, one may appear with the next publishing: look again after this many seconds.
_FRESH = 1.0


class Models:
    """The models of the sampler at `base_url`, remembered while they can be relied on."""

    def __init__(self, base_url: str, caller: Caller) -> None:
        self._base_url = base_url
        self._caller = caller
        self._known: ModelList | None = None
        self._known_at = 0.0

    async def look(self, patience: Patience = READS) -> ModelList:
        """Ask the sampler."""
        self._known = await self._caller.call(MODELS, MODELS.url(self._base_url), patience=patience)
        self._known_at = time.monotonic()
        return self._known

    async def live_adapter(self) -> ModelCard | None:
        """The adapter the sampler follows, asked for now."""
        return _live(await self.look())

    async def to_sample(self, checkpoint: str | None) -> ModelCard:
        """The model that a request must name: a published checkpoint, else the live adapter, else the base model.

        Raises:
            WeightsNotReadyError: the sampler does not show the checkpoint.
        """
        models = self._remembered(checkpoint) or await self.look()
        if checkpoint is not None:
            return _named(models, checkpoint)
        return _live(models) or base_of(models)

    def forget(self) -> None:
        """Ask again before the next request."""
        self._known = None

    def _remembered(self, checkpoint: str | None) -> ModelList | None:
        known = self._known
        if known is None:
            return None
        settled = _live(known) is not None if checkpoint is None else any(card.id == checkpoint for card in known.data)
        return known if settled or time.monotonic() - self._known_at < _FRESH else None


def shows_adapter(model: ModelCard) -> bool:
    """Whether an entry is an adapter rather than the base model."""
    return model.parent is not None


def base_of(models: ModelList) -> ModelCard:
    """The entry without a parent.

    Raises:
        ProtocolError: there is none.
    """
    base = next((card for card in models.data if card.parent is None), None)
    if base is None:
        raise ProtocolError("the sampler shows no base model: every entry of /v1/models has a parent")
    return base


def _live(models: ModelList) -> ModelCard | None:
    return next((card for card in models.data if card.parent is not None and not card.id.startswith("bt://")), None)


def _named(models: ModelList, checkpoint: str) -> ModelCard:
    found = next((card for card in models.data if card.id == checkpoint), None)
    if found is None:
        shown = ", ".join(card.id for card in models.data) or "nothing"
        raise WeightsNotReadyError(f"the sampler does not show {checkpoint}; it shows {shown}")
    return found
