"""`Following`: keeps the live adapter up with the run's pointer file and wakes those who wait for a version.

It looks at the file's bytes and loads only when they have changed. It decides how long a request waits for weights.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial

from loops_sdk._wire.completions import MIN_POLICY_VERSION
from loops_sdk.errors import InvalidInputError, NotFoundError, ServerShutdownError
from loops_sdk.instrumentation.redacting import logger
from loops_sdk.local.sampler.adapters import Adapters, Weights
from loops_sdk.local.sampler.driver import Driver
from loops_sdk.local.storage import Storage

__all__ = ["Following", "least_version"]

_log = logger(__name__)
_LARGEST = 2**63 - 1


class Following:
    """The live adapter of a run, or of nothing at all.

    Args:
        adapters: loads it.
        driver: in whose thread that happens.
        storage: where the pointer lies.
        run_id: the run to follow; `None` for a standalone sampler.
        interval: seconds between two looks at the pointer.
        patience: seconds between two tries to load what cannot be loaded.
    """

    def __init__(
        self,
        adapters: Adapters,
        driver: Driver,
        storage: Storage,
        run_id: str | None,
        *,
        interval: float = 0.05,
        patience: float = 1.0,
    ) -> None:
        self._adapters, self._driver, self._storage, self._run_id = adapters, driver, storage, run_id
        self._interval, self._patience = interval, patience
        self._changed = asyncio.Event()
        self._seen: bytes | None = None
        self._refused: bytes | None = None
        self._try_again_at = 0.0

    @property
    def live(self) -> Weights | None:
        """What is served now under the live adapter's id."""
        return self._adapters.live

    async def run(self) -> None:
        """Follow until cancelled; returns at once when there is no run to follow."""
        while self._run_id is not None:
            try:
                await self.look()
            except OSError as error:
                _log.warning("the pointer of run %s cannot be read: %s", self._run_id, error)
            await asyncio.sleep(self._interval)

    async def look(self) -> None:
        """Load what the pointer names, if it has changed: afterwards what was published before the call is live."""
        pointer = None if self._run_id is None else self._storage.pointer(self._run_id)
        if self._run_id is None or pointer is None or pointer == self._seen:
            return
        if pointer == self._refused and time.monotonic() < self._try_again_at:
            return
        try:
            await self._driver.call(partial(self._adapters.load_live, self._run_id))
        except ServerShutdownError:
            raise
        except Exception as error:
            self._refuse(pointer, error)
        else:
            self._seen = pointer
            self._changed.set()
            self._changed = asyncio.Event()

    def _refuse(self, pointer: bytes, error: Exception) -> None:
        """The older adapter stays live; a newer publication, which may have taken away the files, gets its own try."""
        _log.warning("the adapter that run %s published cannot be loaded: %s", self._run_id, error)
        self._refused, self._try_again_at = pointer, time.monotonic() + self._patience

    async def reach(self, version: int, timeout: float) -> None:
        """Wait until the live adapter is at least `version`.

        Raises:
            ServerShutdownError: 503, it is not within `timeout` seconds; the message names both versions.
            NotFoundError: 404, there is no live adapter and no version was asked for.
        """
        try:
            async with asyncio.timeout(timeout):
                while version and not self.has(version):
                    await self._changed.wait()
        except TimeoutError:
            raise self.too_old(version) from None
        if self.live is None:
            raise NotFoundError("no adapter has been published yet; publish one, or ask for the base model", status=404)

    def has(self, version: int) -> bool:
        """Whether the live adapter is at least `version`."""
        return self.live is not None and self.live.policy_version >= version

    def too_old(self, version: int) -> ServerShutdownError:
        """The refusal that names what is served and what was asked for."""
        served = f"policy version {self.live.policy_version}" if self.live else "no adapter yet"
        text = f"policy version {version} was asked for ({MIN_POLICY_VERSION}), this sampler serves {served}"
        return ServerShutdownError(text, status=503, retry_after=1.0)


def least_version(headers: Mapping[str, str]) -> int:
    """What the request's header asks for; 0 when it does not.

    Raises:
        InvalidInputError: not a whole number >= 0.
    """
    text = headers.get(MIN_POLICY_VERSION, "0").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= _LARGEST):
        raise InvalidInputError(f"{MIN_POLICY_VERSION}: expected a whole number >= 0, got {text[:80]!r}")
    return int(text)
