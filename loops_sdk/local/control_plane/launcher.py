"""What the control plane needs from whoever runs trainers and samplers."""

from __future__ import annotations

from typing import Literal, Protocol

__all__ = ["Deployed", "Launcher", "State"]

State = Literal["starting", "ready", "failed", "stopped"]


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

    async def launch_trainer(self, run_id: str) -> Deployed:
        """Start the trainer of a recorded run. Returns when it listens; it becomes ready later.

        Raises:
            LoopsError: it cannot be started, or too many are running.
        """
        ...

    async def launch_sampler(self, sampler_id: str) -> Deployed:
        """Start a recorded sampler. Returns when it listens; it becomes ready later.

        Raises:
            LoopsError: it cannot be started, or too many are running.
        """
        ...

    async def stop(self, deployed: Deployed) -> None:
        """Stop one; one that has stopped already is no error."""
        ...
