"""`Servers`: who serves which run and which sampler, by id. It knows neither records nor HTTP, and forgets everything
when the deployment ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from loops_sdk.local.control_plane.launcher import Deployed, Full, Launcher, State

__all__ = ["Servers"]


class Servers:
    """The trainers and samplers of a deployment.

    Args:
        make_room: called when no more can be launched; says whether it has ended something, so that another try pays.
    """

    def __init__(self, launcher: Launcher, make_room: Callable[[], Awaitable[bool]]) -> None:
        self._launcher, self._make_room = launcher, make_room
        self._deployed: dict[str, Deployed] = {}

    async def launch_trainer(self, run_id: str) -> None:
        """Launch the trainer of a recorded run; raises as `Launcher.launch_trainer`."""
        await self._launch(self._launcher.launch_trainer, run_id)

    async def launch_sampler(self, sampler_id: str) -> None:
        """Launch a recorded sampler; raises as `Launcher.launch_sampler`."""
        await self._launch(self._launcher.launch_sampler, sampler_id)

    async def _launch(self, launch: Callable[[str], Awaitable[Deployed]], name: str) -> None:
        while True:
            try:
                self._deployed[name] = await launch(name)
                return
            except Full:
                if not await self._make_room():
                    raise

    async def hand_over(self, old: str, new: str) -> None:
        """Have what serves `old`, which is ready, serve `new`. It is `new`'s from the start, whatever comes of it.

        Raises:
            LoopsError: it would not let go of what it was doing, or is gone.
        """
        deployed = self._deployed[new] = self._deployed.pop(old)
        await self._launcher.reassign(deployed, new)

    async def stop(self, name: str) -> None:
        """Stop what serves `name`; nothing, or what has stopped already, is no error."""
        if (deployed := self._deployed.get(name)) is not None:
            await self._launcher.stop(deployed)

    def state(self, name: str) -> State:
        """What serves `name` is up to; ``stopped`` when nothing does."""
        deployed = self._deployed.get(name)
        return "stopped" if deployed is None else deployed.state

    def port(self, name: str) -> int | None:
        """Where what serves `name` listens; `None` when nothing does any more."""
        return self._deployed[name].port if self.state(name) in ("starting", "ready") else None

    def idle(self, *names: str) -> float:
        """Seconds since a client last asked anything of any of these, of which at least one is served."""
        return min(self._deployed[name].idle for name in names if name in self._deployed)
