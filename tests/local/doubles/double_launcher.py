"""A launcher that starts nothing and remembers what it was asked for."""

from __future__ import annotations

import itertools

import attrs

from loops_sdk.errors import DeploymentFailedError
from loops_sdk.local.control_plane import Deployed, Full, State


@attrs.define(eq=False)
class Server:
    port: int
    state: State = "starting"
    idle: float = 0.0
    stubborn: bool = False


class Launcher:
    base_model = "double/model"
    max_seq_len = 64

    def __init__(self, most: int = 100) -> None:
        self.launched: dict[str, Server] = {}
        self.left: set[str] = set()
        self.settled = False
        self._most = most
        self._ports = itertools.count(10_000)

    def settle(self) -> None:
        self.settled = True

    async def launch_trainer(self, run_id: str) -> Deployed:
        return self._launch(run_id)

    async def launch_sampler(self, sampler_id: str) -> Deployed:
        return self._launch(sampler_id)

    def _launch(self, name: str) -> Server:
        if sum(server.state != "stopped" for server in self.launched.values()) >= self._most:
            raise Full("too many", status=409)
        self.launched[name] = Server(next(self._ports))
        return self.launched[name]

    async def reassign(self, deployed: Deployed, serve: str) -> None:
        assert isinstance(deployed, Server)
        if deployed.stubborn:
            deployed.state = "failed"
            raise DeploymentFailedError("it would not let go")
        self.launched = {name: one for name, one in self.launched.items() if one is not deployed}
        self.launched[serve] = deployed
        deployed.port, deployed.state = next(self._ports), "starting"

    async def stop(self, deployed: Deployed) -> None:
        assert isinstance(deployed, Server)
        deployed.state = "stopped"
