"""What the control plane needs from whoever runs trainers and samplers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, Protocol

from loops_sdk.errors import BadRequestError

__all__ = ["Deployed", "Full", "Launcher", "State"]

State = Literal["starting", "ready", "failed", "stopped"]


class Full(BadRequestError):
    """As many trainers and samplers run as may."""


class Deployed(Protocol):
    """One trainer or sampler that has been launched."""

    @property
    def port(self) -> int:
        """Where it listens, on the deployment's host."""
        ...

    @property
    def state(self) -> State:
        """``starting`` until it answers its ``/health`` with 200; ``failed`` when it died or could not load."""
        ...

    @property
    def idle(self) -> float:
        """Seconds since a client last asked anything of it, never less, at most five more; since it was given something
        to serve when none has.
        """
        ...


class Launcher(Protocol):
    """Starts and stops trainers and samplers of one base model."""

    @property
    def base_model(self) -> str:
        """The base model they all have."""
        ...

    @property
    def max_seq_len(self) -> int:
        """Longest sequence it takes, in tokens."""
        ...

    @property
    def left(self) -> Collection[str]:
        """Ids of the runs and samplers that an earlier deployment on this data directory was serving when it ended."""
        ...

    def settle(self) -> None:
        """What was left and has not been launched again will not be."""
        ...

    async def launch_trainer(self, run_id: str) -> Deployed:
        """Start the trainer of a recorded run. Returns when it listens; it becomes ready later.

        Raises:
            Full: as many are running as may.
            LoopsError: it cannot be started.
        """
        ...

    async def launch_sampler(self, sampler_id: str) -> Deployed:
        """Start a recorded sampler. Returns when it listens; it becomes ready later.

        Raises:
            Full: as many are running as may.
            LoopsError: it cannot be started.
        """
        ...

    async def reassign(self, deployed: Deployed, serve: str) -> None:
        """Have a ready trainer serve another recorded run, or a sampler its own record anew, without loading the base
        model again. Returns when it listens, at another port than before; it becomes ready later.

        Raises:
            LoopsError: it would not let go of what it was doing, or is gone.
        """
        ...

    async def stop(self, deployed: Deployed) -> None:
        """Stop one; one that has stopped already is no error."""
        ...
