"""A bare client of a whole deployment."""

from __future__ import annotations

from typing import Any

import aiohttp

from loops_sdk.local import LocalStack

from ..conftest import until


class Client:
    """Speaks to the control plane of `stack` and to the servers it names."""

    def __init__(self, stack: LocalStack, session: aiohttp.ClientSession) -> None:
        self.stack, self.session = stack, session

    async def ask(self, method: str, url: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.stack.api_key}"}
        full = url if url.startswith("http") else self.stack.base_url + url
        async with self.session.request(method, full, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def create(self, what: str = "runs", /, **fields: Any) -> tuple[int, Any]:
        _, made = await self.ask("POST", "/v1/loops/sessions")
        body = {"session_id": made["session"]["id"], "base_model": "double/model", **fields}
        return await self.ask("POST", f"/v1/loops/{what}", body)

    async def run(self, what: str = "runs", /, **fields: Any) -> Any:
        """A run whose servers are healthy."""
        status, made = await self.create(what, **fields)
        assert status == 200, made
        servers = [made["run"]["base_url"]]
        if made["run"]["sampler"]:
            servers.append(made["run"]["sampler"]["base_url"])
        for server in servers:
            await self.healthy(server)
        return made["run"]

    async def healthy(self, server: str) -> None:
        async def is_healthy() -> bool:
            return (await self.ask("GET", f"{server}/health"))[0] == 200

        await until(is_healthy)

    async def do(self, server: str, operation: str, body: Any) -> Any:
        status, accepted = await self.ask("POST", f"{server}/{operation}", body)
        assert status == 202, accepted
        _, reply = await self.ask("GET", f"{server}/operations/{accepted['operation_id']}")
        assert reply["status"] == "done", reply
        return reply["result"]
