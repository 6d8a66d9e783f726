"""`TrainingClient` as the service's own package has it."""

from __future__ import annotations

import loops_sdk_sync
from loops_sdk_sync import SamplingClient

__all__ = ["TrainingClient"]


class TrainingClient(loops_sdk_sync.TrainingClient):
    """`loops_sdk_sync.TrainingClient`, with one coroutine that goes a step further."""

    async def save_weights_and_get_sampling_client_async(self, name: str) -> SamplingClient:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """Publish the adapter, wait until the paired sampler serves it, and return the pinned client itself.

        The blocking form gives a future, as in `loops_sdk_sync`, and so do the ``*_async`` forms of all other
        operations.

        Args:
            name: 1 to 255 letters, digits, '.', '_' or '-'; a checkpoint of the same name is replaced.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            RemoteOpError: the trainer could not publish.
            WeightsNotReadyError: no replica reported the version in time (a `RuntimeError`).
            LoopsError: trainer or sampler could not be reached, after bounded attempts.
        """
        return await (await super().save_weights_and_get_sampling_client_async(name))
