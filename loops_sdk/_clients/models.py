"""Which model a sampler's requests must name: read from the sampler, never assumed, and never one question too many."""

from __future__ import annotations

import asyncio
import time

import attrs

from loops_sdk._clients.readiness import once_up
from loops_sdk._net.caller import READS, Caller
from loops_sdk._wire.bodies import ModelCard, ModelList
from loops_sdk._wire.endpoints import MODELS
from loops_sdk.errors import LoopsError, ProtocolError, WeightsNotReadyError

#: While a sampler shows no adapter, one may appear with the next publishing: look again after this many seconds.
_FRESH = 1.0


class Models:
    """The models of the sampler at `base_url`, remembered while they can be relied on.

    A `deadline` is a time on the clock of `time.monotonic`.
    """

    def __init__(self, base_url: str, caller: Caller) -> None:
        self._url = MODELS.url(base_url)
        self._caller = caller
        self._shown: dict[str | None, ModelCard] = {}
        self._seen_at = 0.0
        self._asking = asyncio.Lock()

    async def look(self, deadline: float | None = None) -> ModelList:
        """Ask the sampler."""
        left = READS.total if deadline is None else deadline - time.monotonic()
        patience = attrs.evolve(READS, total=min(READS.total, left))
        models = await self._caller.call(MODELS, self._url, patience=patience)
        self._shown, self._seen_at = _by_name(models), time.monotonic()
        return models

    async def once_up(self, timeout: float) -> ModelList:
        """Ask the sampler, which may still be coming up and not even be reachable.

        Raises:
            RequestTimeoutError: it did not answer within `timeout` seconds.
            LoopsError: it answered with what waiting does not mend.
        """
        return await self._up(time.monotonic() + timeout, unreachable=True)

    async def live_adapter(self, deadline: float | None = None) -> ModelCard | None:
        """The adapter the sampler follows, asked for now."""
        return live_of(await self.look(deadline))

    async def to_sample(self, checkpoint: str | None, deadline: float) -> ModelCard:
        """The model that a request must name: a published checkpoint, else the live adapter, else the base model.

        Raises:
            WeightsNotReadyError: the sampler does not show the checkpoint.
        """
        known = self._known(checkpoint)
        if known is not None:
            return known
        async with self._asking:  # one asks, whoever else wants to know uses what it heard
            known = self._known(checkpoint, waited=True)
            return known or _named(await self._up(deadline, unreachable=False), checkpoint)

    def forget(self) -> None:
        """Ask again before the next request."""
        self._shown.clear()

    def _known(self, checkpoint: str | None, *, waited: bool = False) -> ModelCard | None:
        """What was shown before, while it can be relied on, or while somebody is asking already."""
        known = self._shown.get(checkpoint)
        if known is None or shows_adapter(known) or checkpoint is not None:
            return known
        fresh = time.monotonic() - self._seen_at < _FRESH
        return known if fresh or (self._asking.locked() and not waited) else None

    async def _up(self, deadline: float, *, unreachable: bool) -> ModelList:
        timeout = deadline - time.monotonic()
        try:
            return await once_up(lambda: self.look(deadline), timeout, unreachable=unreachable)
        except LoopsError as error:
            error.add_context(operation=MODELS.name, url=self._url)
            raise


def shows_adapter(model: ModelCard) -> bool:
    """Whether an entry is an adapter rather than the base model."""
    return model.parent is not None


def base_of(models: ModelList) -> ModelCard:
    """The entry without a parent.

    Raises:
        ProtocolError: there is none.
    """
    base = next((card for card in models.data if not shows_adapter(card)), None)
    if base is None:
        raise ProtocolError("the sampler shows no base model: every entry of /v1/models has a parent")
    return base


def live_of(models: ModelList) -> ModelCard | None:
    """The first entry with a parent: the adapter that the sampler serves now."""
    return next((card for card in models.data if shows_adapter(card)), None)


def _by_name(models: ModelList) -> dict[str | None, ModelCard]:
    """What requests can name; without a name the live adapter, else the base model."""
    named: dict[str | None, ModelCard] = {card.id: card for card in reversed(models.data)}
    return {**named, None: live_of(models) or models.data[0]} if models.data else {}


def _named(models: ModelList, checkpoint: str | None) -> ModelCard:
    if checkpoint is None:
        return live_of(models) or base_of(models)
    found = _by_name(models).get(checkpoint)
    if found is None:
        shown = ", ".join(card.id for card in models.data) or "nothing"
        raise WeightsNotReadyError(f"the sampler does not show {checkpoint}; it shows {shown}")
    return found
