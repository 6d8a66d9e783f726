"""A control plane over a launcher that starts nothing, and what tests ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from loops_sdk.local.control_plane import ControlPlane
from loops_sdk.local.storage import Storage
from loops_sdk.types import CheckpointPath

from .conftest import KEY, Answer, Peer, Serve
from .doubles.double_launcher import Launcher

ONE_FILE = {"file": b"12345"}


@attrs.frozen
class Plane:
    peer: Peer
    launcher: Launcher
    storage: Storage
    session: str

    async def create(self, what: str = "runs", /, **fields: Any) -> Answer:
        body = {"session_id": self.session, "base_model": "double/model", **fields}
        return await self.peer.post(f"/v1/loops/{what}", {name: value for name, value in body.items() if value != ...})

    async def run(self, what: str = "runs", /, **fields: Any) -> dict[str, Any]:
        answer = await self.create(what, **fields)
        assert answer.status == 200, answer
        run: dict[str, Any] = answer.json["run"]
        return run

    async def get(self, path: str, **query: str) -> Any:
        answer = await self.peer.get(f"/v1/loops/{path}", params=query)
        assert answer.status == 200, answer
        return answer.json

    def save(self, run_id: str, kind: Any, name: str, files: Mapping[str, bytes] = ONE_FILE, **more: Any) -> str:
        """A checkpoint of these files; returns its address."""
        path = CheckpointPath(run_id, kind, name)
        config = {"target_modules": ["up_proj"], "r": 64}
        self.storage.save(
            path,
            lambda folder: _write(folder, files),
            base_model="double/model",
            adapter_config=config,
            policy_version=1,
            **more,
        )
        return str(path)

    async def files(self, run_id: str, **query: str) -> Any:
        """The files of a run's only checkpoint."""
        (checkpoint,) = (await self.get("checkpoints", run_id=run_id))["checkpoints"]
        return await self.get(f"checkpoints/{checkpoint['id']}/files", **query)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content)


async def started(root: Path, serve: Serve, launcher: Launcher | None = None, **options: Any) -> Plane:
    """A control plane on `root`, and a session."""
    storage, launcher = Storage.create(root), launcher or Launcher()
    peer = await serve(ControlPlane(storage, launcher, api_key=KEY, **options).app)
    created = await peer.send("POST", "/v1/loops/sessions")
    return Plane(peer, launcher, storage, created.json["session"]["id"])
