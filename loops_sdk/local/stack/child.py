"""The frame of a child process: settings in, a server up, reports out, a bounded end. What it serves is given to it."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

import attrs
from aiohttp import web

from loops_sdk._wire.codec import structure
from loops_sdk.errors import DeploymentFailedError, LoopsError
from loops_sdk.instrumentation.redacting import RedactingFilter, logger
from loops_sdk.local.serving import WATCHING, Handler, Server
from loops_sdk.local.stack.leash import Leash
from loops_sdk.local.storage import Storage

__all__ = ["Assignment", "Child", "Settings", "Use", "run"]

Engine = TypeVar("Engine")
#: The id of what to serve, and the socket to serve it on.
Assignment: TypeAlias = tuple[str, socket.socket]

_REPORT_EVERY = 1.0
#: How long what is computed may go on when its server has closed and the engine is to serve something else.
_LET_GO = 10.0


@attrs.frozen
class Settings:
    """What the parent tells a child first. The key comes this way because arguments can be read by every user.

    Attributes:
        engine: module with `load_training_engine` and `load_generation_engine`.
        durable: whether a trainer keeps what it needs to go on after its sudden death.
    """

    api_key: str = attrs.field(repr=False)
    base_model: str
    host: str
    engine: str
    max_seq_len: int | None = None
    durable: bool = True


class Use:
    """Whether clients ask anything of a server. A request that waits for its answer is use for as long as it waits."""

    def __init__(self) -> None:
        self._begun = 0
        self._under_way = 0

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request from its beginning to its end."""
        if request.path.startswith(WATCHING):
            return await handler(request)
        self._begun += 1
        self._under_way += 1
        try:
            return await handler(request)
        finally:
            self._under_way -= 1

    def since_last_look(self) -> bool:
        """Whether there was any since this was last asked."""
        begun, self._begun = self._begun, 0
        return begun > 0 or self._under_way > 0


@attrs.frozen
class Child:
    """A child process from the inside."""

    leash: Leash
    settings: Settings
    storage: Storage

    @asynccontextmanager
    async def listening(
        self, app: web.Application, listener: socket.socket, *, cancel_on_disconnect: bool
    ) -> AsyncIterator[None]:
        """Serve `app` on the socket that came with the assignment, and tell the parent."""
        use = Use()
        app.middlewares.insert(0, use.count)
        server = Server(app, listener=listener, cancel_on_disconnect=cancel_on_disconnect)
        await server.start()
        self.leash.report("listening")
        reporting = asyncio.create_task(self._report(use))
        try:
            yield
        finally:
            reporting.cancel()
            await server.aclose()

    async def _report(self, use: Use) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            if use.since_last_look():
                self.leash.report("used")

    async def load(self, function: str, **options: Any) -> Any:
        """The engine, loaded in a thread, so that the server answers meanwhile; the parent is told."""
        engine = await asyncio.to_thread(self._load, function, options)
        # The hundreds of thousands of objects that torch and transformers are made of stay to the end. Left to the
        # collector, they would cost every full collection a third of a second, and make it wait for a quarter as many.
        gc.collect()
        gc.freeze()
        self.leash.report("loaded", max_seq_len=engine.max_seq_len)
        return engine

    def _load(self, function: str, options: dict[str, Any]) -> Any:
        try:
            load = getattr(importlib.import_module(self.settings.engine), function)
            return load(self.settings.base_model, cache_dir=self.storage.root / "cache", **options)
        except ImportError as error:
            text = f"the engine {self.settings.engine} cannot be imported ({error}): pip install 'loops-sdk[local]'"
            raise DeploymentFailedError(text) from error

    async def serve_each(
        self,
        serve: Callable[[Child, str, socket.socket, asyncio.Task[Engine]], Awaitable[Assignment]],
        loading: Coroutine[Any, Any, Engine],
    ) -> NoReturn:
        """Serve one assignment after another until cancelled, all of them with the one engine.

        Args:
            serve: serves what an assignment names until there is another assignment, which it returns.
            loading: gives the engine, and may take its time.
        """
        engine = asyncio.create_task(loading)
        assigned = await self.assignment(engine)
        while True:
            assigned = await serve(self, *assigned, engine)

    async def assignment(self, fate: asyncio.Task[Any]) -> Assignment:
        """What to serve, once the parent has something; asked again, what to serve instead.

        Raises:
            Exception: what ended `fate`, if that comes first.
        """
        waiting = asyncio.create_task(asyncio.to_thread(self.leash.next_order))
        await asyncio.wait((waiting, fate), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            fate.result()
        order = await waiting
        return str(order["serve"]), self.leash.next_listener()

    async def let_go(self, release: Callable[[float], Awaitable[bool]]) -> None:
        """Wait until a closed server no longer computes.

        Args:
            release: waits for at most so many seconds, and says whether the engine is free.

        Raises:
            DeploymentFailedError: the engine is still busy, and nothing else can be served with it.
        """
        if not await release(_LET_GO):
            raise DeploymentFailedError(f"what was being computed did not end within {_LET_GO:g} s")


def run(serve: Callable[[Child], Awaitable[None]]) -> NoReturn:
    """The whole life of a child: ``python -m MODULE DATA_DIR (temporary|kept)``."""
    root = Path(sys.argv[1])
    leash = Leash(root if sys.argv[2] == "temporary" else None)
    _log_to_stderr()
    code = 1
    try:
        child = Child(leash, structure(leash.next_order(), Settings), Storage(root))
        # Not asyncio.run: it would wait for the threads of its executor, and a model that is loading takes its time.
        asyncio.new_event_loop().run_until_complete(_until_terminated(serve(child)))
        code = 0
    except LoopsError as error:  # said in its own words, to which a traceback adds nothing
        logger(__name__).error("%s", error)
        leash.report("failed", message=error.message)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # threads may be in the middle of a computation that nobody waits for any more


def _log_to_stderr() -> None:
    """All loggers of this process, those of torch and aiohttp too: nobody else sets them up, and the file is kept."""
    handler = logging.StreamHandler()
    handler.addFilter(RedactingFilter())
    told = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=told, handlers=[handler])


async def _until_terminated(serving: Awaitable[None]) -> None:
    task = asyncio.ensure_future(serving)
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    waiting = asyncio.create_task(terminated.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
    if not task.cancelled():
        task.result()
