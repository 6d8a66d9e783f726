"""The sampler that is paired with a trainer: made on first need, once, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from loops_sdk._clients.control import ControlPlane
from loops_sdk._clients.readiness import deployment_ready, sampler_ready
from loops_sdk._net.caller import Caller
from loops_sdk._wire.bodies import CreateSamplerBody
from loops_sdk.errors import InvalidInputError, LoopsError
from loops_sdk.types import Deployment, Run

if TYPE_CHECKING:
    from typing import Self


class PairedSampler:
    """Knows where the paired sampler is, or how to get one.

    Args:
        find: gives its place once it is ready; called when it is first needed.

    Attributes:
        sampler_id, session_id: what a control plane calls it and whose it is, once it was found there.
    """

    def __init__(self, find: Callable[[], Awaitable[Deployment]]) -> None:
        self._find = find
        self._deployment: Deployment | None = None
        self.sampler_id: str | None = None
        self.session_id: str | None = None
        self._lock = asyncio.Lock()

    @classmethod
    def at(
        cls,
        place: Deployment | None,
        caller: Caller,
        *,
        run_id: str | None,
        ready_timeout: float,
        argument: str = "paired_sampling_deployment",
    ) -> Self:
        """The sampler at a place that the user named, if one was named, under the name of `argument`."""

        async def find() -> Deployment:
            if place is None:
                raise InvalidInputError(f"{argument}: this client knows no paired sampler; pass {argument}=...")
            await deployment_ready(place, caller, ready_timeout, run_id=run_id)
            return place

        return cls(find)

    @classmethod
    def of_run(
        cls, control: ControlPlane, run: Run, wanted: CreateSamplerBody, *, timeout: float, ready_timeout: float
    ) -> Self:
        """The sampler that the run has already, or one as `wanted`, provisioned when it is first needed."""
        ids = {"session_id": run.session_id, "run_id": run.id}

        async def find() -> Deployment:
            try:
                sampler = (await control.get_run(run.id)).sampler
                if sampler is None:
                    sampler = await control.create_sampler(wanted, timeout=timeout)
                paired.sampler_id, paired.session_id = sampler.id, run.session_id
                return await sampler_ready(sampler, control, ready_timeout, **ids)
            except LoopsError as error:
                error.add_context(**ids)
                raise

        paired = cls(find)
        return paired

    async def deployment(self) -> Deployment:
        """Where it is; waits until it is ready.

        Raises:
            InvalidInputError: the trainer was given by address, without a sampler.
            DeploymentFailedError, RequestTimeoutError: it does not come up.
        """
        async with self._lock:
            if self._deployment is None:
                self._deployment = await self._find()
            return self._deployment
