"""Questions to the trainers and samplers of the same deployment, each with a deadline."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web

from loops_sdk._wire.codec import dumps, loads
from loops_sdk._wire.failures import error_from_response
from loops_sdk.errors import ServerShutdownError

__all__ = ["Peers"]


class Peers:
    """Trainers and samplers by the port on which they listen.

    Args:
        api_key: the key that they want.
        host: where they listen.
    """

    def __init__(self, *, api_key: str, host: str) -> None:
        self._headers = {"Authorization": f"Bearer {api_key}"}
        here = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
        self._host = f"[{here}]" if ":" in here else here
        self._session: aiohttp.ClientSession | None = None

    async def opened(self, _app: web.Application) -> AsyncIterator[None]:
        """The connections, for as long as an application runs."""
        async with aiohttp.ClientSession(headers=self._headers) as self._session:
            yield

    async def ask(self, port: int, method: str, path: str, *, within: float, body: Any = None) -> Any:
        """The answer, read from JSON.

        Args:
            within: seconds.

        Raises:
            ServerShutdownError: no answer within that time, or nobody listens.
            StatusError: it says no.
        """
        assert self._session is not None  # `opened`
        data = None if body is None else dumps(body)
        limit = aiohttp.ClientTimeout(total=within)
        url = f"http://{self._host}:{port}{path}"
        try:
            async with self._session.request(method, url, data=data, timeout=limit, allow_redirects=False) as response:
                said = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            text = f"no answer within {within:g} s" if isinstance(error, TimeoutError) else f"no answer ({error})"
            raise ServerShutdownError(text, status=503, retry_after=1.0) from None
        if response.status >= 300:
            raise error_from_response(response.status, response.headers, said, now=time.time())
        return loads(said)
