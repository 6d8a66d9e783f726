"""The live end of a `SamplingClient`: its connections, shared or its own, and what it knows of its sampler.

It decides when connections open, who closes them, and what of them a copy in another process starts from.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from loops_sdk._clients.binding import Binding
from loops_sdk._clients.completing import Completions
from loops_sdk._clients.models import Models
from loops_sdk._net.network import ApiKey, Network
from loops_sdk.errors import CLOSED, ClientClosedError
from loops_sdk.instrumentation import Emit
from loops_sdk.instrumentation.waiting import nobody

if TYPE_CHECKING:
    from typing import Self


class Connection:
    """What ties a client to its sampler, in this process.

    Args:
        network: connections that others close; `None` makes some when they are first needed.
        api_key: where those get their key.
    """

    def __init__(self, binding: Binding, network: Network | None = None, api_key: ApiKey = None) -> None:
        self.binding = binding
        self._network = network
        self._api_key = api_key
        self._owned = network is None
        self._closed = False

    @classmethod
    def owned(cls, binding: Binding, api_key: ApiKey) -> Self:
        """Connections of the client's own, made now so that a missing key is told now."""
        self = cls(binding, None, api_key)
        self._network = binding.network(api_key)
        return self

    @property
    def portable_key(self) -> ApiKey:
        """What a copy in another process gets for a key; see `Network`."""
        return self._api_key if self._network is None else self._network.portable_key

    def require_open(self) -> None:
        """Refuse what is asked of a closed client.

        Raises:
            ClientClosedError: it was closed.
        """
        if self._closed:
            raise ClientClosedError(CLOSED)

    @property
    def emit(self) -> Emit:
        """Who hears of what the client waits for; of a copy that has opened no connections yet, nobody."""
        return nobody if self._network is None else self._network.caller.emit

    @property
    def network(self) -> Network:
        """The connections.

        Raises:
            InvalidInputError: this is a copy, and there is no key for it in this process.
        """
        if self._network is None:
            self._network = self.binding.network(self._api_key)
        return self._network

    @cached_property
    def models(self) -> Models:
        """What the sampler shows."""
        return Models(self.binding.deployment.base_url, self.network.caller)

    @cached_property
    def completions(self) -> Completions:
        """What the sampler answers."""
        return Completions(self.binding, self.models, self.network.caller)

    async def aclose(self) -> None:
        """Close what is the client's own, if it was ever opened."""
        self._closed = True
        if self._owned and self._network is not None:
            await self._network.aclose()
