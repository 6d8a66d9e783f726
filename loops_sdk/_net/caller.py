"""One logical request: as many attempts as its budget allows, then the decoded reply or one error that tells the
whole story.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

import attrs

from loops_sdk._net.transport import Response, Transport
from loops_sdk._wire import codec
from loops_sdk._wire.endpoints import Endpoint
from loops_sdk._wire.failures import error_from_response
from loops_sdk._wire.forms import Body
from loops_sdk._wire.retrying import Backoff, Budget, Wait, decide
from loops_sdk.errors import ConnectionFailedError, LoopsError
from loops_sdk.instrumentation import Emit, Observer, RequestRetried
from loops_sdk.instrumentation.trails import Trail, Trails

T = TypeVar("T")


@attrs.frozen
class Patience:
    """How long one logical request may take.

    Attributes:
        total: seconds for all attempts and the pauses between them.
        each: seconds for one attempt; `None` means whatever is left of `total`.
        attempts: most requests sent.
        unreachable: seconds after which a server that cannot be connected to at all is reported.
    """

    total: float
    each: float | None = None
    attempts: int = 8
    unreachable: float = 10.0


#: For small reads: give up within a minute.
READS = Patience(total=60.0, each=30.0)


class Caller:
    """Sends requests of the protocol table and repeats those that may be repeated.

    Args:
        emit: what events are given to.
        observers: those among them that may want to follow calls.

    Attributes:
        trails: begins the trail of a call.
    """

    def __init__(self, transport: Transport, emit: Emit, observers: Sequence[Observer] = ()) -> None:
        self.transport = transport
        self.emit = emit
        self.trails = Trails(lambda event: self.emit(event), observers)  # whoever is told by then
        self._backoff = Backoff()

    async def call(
        self,
        endpoint: Endpoint[T],
        url: str,
        *,
        patience: Patience = READS,
        body: bytes | Body | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> T:
        """The decoded reply of a request; see `send`.

        Raises:
            ProtocolError: the reply has another shape than the protocol says.
        """
        start = time.monotonic()
        response = await self.send(endpoint, url, patience=patience, body=body, headers=headers, params=params)
        try:
            return codec.decode(response.body, endpoint.reply)
        except LoopsError as error:
            elapsed = time.monotonic() - start
            error.add_context(operation=endpoint.name, url=url, elapsed=elapsed, **response.context())
            raise

    async def send(
        self,
        endpoint: Endpoint[T],
        url: str,
        *,
        patience: Patience = READS,
        body: bytes | Body | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        trail: Trail | None = None,
    ) -> Response:
        """The first answer with a status of 200 to 299. The request belongs to the call of `trail`, if it has one.

        What is not repeatable is sent again only when no connection could be made, because then nothing was sent.

        Raises:
            LoopsError: the last failure, with operation, url, number of attempts and elapsed seconds on it.
        """
        start = time.monotonic()
        attempt = 0
        trail = trail or Trail(self.emit)
        headers = trail.added(headers or {})
        while True:
            attempt += 1
            left = start + patience.total - time.monotonic()
            timeout = max(0.001, left if patience.each is None else min(left, patience.each))
            try:
                return await self._once(endpoint, url, body, headers, params, timeout)
            except LoopsError as error:
                wait = self._pause(endpoint, error, attempt, start, patience)
                elapsed = time.monotonic() - start
                error.add_context(operation=endpoint.name, url=url, attempts=attempt, elapsed=elapsed)
                if wait is None:
                    raise
                trail.emit(RequestRetried(endpoint.name, url, attempt, wait, error.message, run_id=trail.run_id))
                await self.transport.pause(wait)

    async def _once(
        self,
        endpoint: Endpoint[T],
        url: str,
        body: bytes | Body | None,
        headers: Mapping[str, str] | None,
        params: Mapping[str, str] | None,
        timeout: float,
    ) -> Response:
        response = await self.transport.request(
            endpoint.method, url, body=body, headers=headers, params=params, timeout=timeout, most=endpoint.most
        )
        if 200 <= response.status < 300:
            return response
        raise error_from_response(response.status, response.headers, response.body, now=time.time())

    def _pause(
        self, endpoint: Endpoint[T], error: LoopsError, attempt: int, start: float, patience: Patience
    ) -> float | None:
        """Seconds until the next attempt, `None` when this was the last."""
        never_sent = isinstance(error, ConnectionFailedError) and error.code == "unreachable"
        if not (endpoint.repeatable or never_sent):
            return None
        total = min(patience.total, patience.unreachable) if never_sent else patience.total
        budget = Budget(patience.attempts, start + total)
        verdict = decide(attempt, error, now=time.monotonic(), budget=budget, backoff=self._backoff, draw=random.random)
        return verdict.seconds if isinstance(verdict, Wait) else None
