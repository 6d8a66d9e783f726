"""`LocalStack`: starts everything, knows the address and the key, closes everything."""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import math
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs

from loops_sdk.errors import DeploymentFailedError, InvalidInputError, UnsupportedError
from loops_sdk.instrumentation.metrics import folder_of_environment
from loops_sdk.instrumentation.progress import shown
from loops_sdk.instrumentation.redacting import logger
from loops_sdk.instrumentation.waiting import Waiting
from loops_sdk.local.control_plane import ControlPlane
from loops_sdk.local.serving import Server
from loops_sdk.local.stack.child import Settings
from loops_sdk.local.stack.fleet import Fleet
from loops_sdk.local.stack.ports import require_free
from loops_sdk.local.storage import Storage, detach_and_remove
from loops_sdk.local.storage.files import read_if_there, write_atomically

if TYPE_CHECKING:
    from typing import Self

__all__ = ["LocalStack"]

_log = logger(__name__)
_TORCH_ENGINE = "loops_sdk.local.engine.torch_engine"
_NEEDED = ("torch", "transformers", "peft", "safetensors")


class LocalStack:
    """A deployment on this machine: ``async with LocalStack() as stack: ...``.

    The control plane runs in the caller's event loop; each trainer and each sampler is a process of its own. Everything
    ends with the block, with the program, and with its sudden death. Constructing it does nothing.

    A trainer or sampler whose process dies is replaced, at the same address. Operations that a trainer has accepted,
    their results, and the state of its weights and optimizer are on the disk before anybody hears of them, so that
    training goes on as if nothing had happened: to the bit, each operation once. A deployment that is started on the
    data directory of one that has ended, however that came about, goes on with the runs that it had.

    A run stays up until it is deactivated, until room is needed and nobody has asked anything of it for a minute, or,
    when it was made with `scale_down_delay_seconds`, until nobody has asked anything of it for that long. Its
    checkpoints stay in any case. A run made with `reuse_from_run_id` (or the older `reuse_from_session_id`) takes over
    trainer and sampler of the other run, which ends, without loading the base model again; they listen at new
    addresses. Where there is nothing to take over it gets new ones.

    Args:
        base_model: the one base model it serves: ``"loops/tiny"``, which ships with this package, a folder in Hugging
            Face format, a ``.gguf`` file, or a hub id.
        data_dir: where runs, checkpoints and logs go. Default: a temporary folder, removed at the end.
        api_key: the key that clients must send. Default: a random one, which a data directory keeps for the next time
            (in ``api_key``, which nobody else may read).
        host: address to bind. Anything but a loopback address lets other machines in, if they have the key.
        port: port of the control plane; 0 means any that is free.
        max_seq_len: longest sequence in tokens. Default: the model's own limit.
        on_progress: called with one line for people now and then while it starts.
        max_processes: most trainers and samplers at the same time, the two that are loaded ahead included.
        start_timeout: seconds that the base model may take to load.
        durable: whether runs survive the sudden death of their trainer. Without it every step is a little faster, a run
            ends with its trainer, and no later deployment goes on with it.
        url_lifetime: seconds that the address of a checkpoint's file is good for.
        engine: module with `load_training_engine` and `load_generation_engine`.
        progress: whether a line says that it starts, as `loops_sdk.ServiceClient` shows what it waits for. Default: as
            there, and never where `on_progress` is given.
    """

    def __init__(
        self,
        base_model: str = "loops/tiny",
        *,
        data_dir: str | Path | None = None,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        max_seq_len: int | None = None,
        on_progress: Callable[[str], None] | None = None,
        max_processes: int = 8,
        start_timeout: float = 600.0,
        durable: bool = True,
        url_lifetime: float = 900.0,
        engine: str = _TORCH_ENGINE,
        progress: bool | None = None,
    ) -> None:
        if max_processes < 2:
            raise InvalidInputError(f"max_processes: expected a whole number >= 2, got {max_processes!r}")
        if not (math.isfinite(url_lifetime) and url_lifetime > 0):
            raise InvalidInputError(f"url_lifetime: expected seconds > 0, got {url_lifetime!r}")
        if api_key is not None and not (api_key and api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise InvalidInputError("api_key: expected visible ASCII characters without spaces")
        self.api_key = api_key or secrets.token_urlsafe(32)
        self._key_given = api_key is not None
        self._settings = Settings(self.api_key, base_model, host, engine, max_seq_len, durable)
        self._data_dir = None if data_dir is None else Path(data_dir).expanduser()
        self._host, self._port = host, port
        self._most, self._start_timeout, self._url_lifetime = max_processes, start_timeout, url_lifetime
        self._on_progress = on_progress or (lambda line: _log.info("%s", line))
        self._shows = False if progress is None and on_progress else progress
        self._wait: Waiting | None = None
        self._metrics = Path()
        self._opened: AsyncExitStack | None = None
        self._server: Server | None = None

    def __repr__(self) -> str:
        return f"LocalStack({self._settings.base_model!r}, {self.base_url if self._server else 'not running'})"

    @property
    def base_url(self) -> str:
        """Address of the control plane, for ``LOOPS_BASE_URL``.

        Raises:
            DeploymentFailedError: it is not running.
        """
        if self._server is None:
            raise DeploymentFailedError("the deployment is not running: use it in `async with`, or call start() first")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        return f"http://[{host}]:{self._server.port}" if ":" in host else f"http://{host}:{self._server.port}"

    @property
    def page_url(self) -> str:
        """Address of the page that shows, in a browser on this machine, what runs on the deployment: runs, curves,
        operations, checkpoints, and a box to sample from them. The key is in its fragment, which no browser sends;
        whoever has this address may use the deployment.

        Raises:
            DeploymentFailedError: it is not running.
        """
        return f"{self.base_url}/#key={quote(self.api_key, safe='')}"

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that point any client at this deployment: its address, its key, and the folder for
        the curves of what is trained here. That is ``metrics`` in the data directory, unless this process has a
        ``LOOPS_METRICS_DIR`` of its own.
        """
        base_url = self.base_url
        return {"LOOPS_BASE_URL": base_url, "BASETEN_API_KEY": self.api_key, "LOOPS_METRICS_DIR": str(self._metrics)}

    async def start(self) -> None:
        """Start everything; returns when the base model is loaded and clients may come.

        Raises:
            InvalidInputError: the data directory cannot be made, or is in use.
            DeploymentFailedError: something did not come up, for example because there is no such base model. Nothing
                is left running then.
            UnsupportedError: on Windows.
        """
        if self._opened is not None:
            raise DeploymentFailedError("the deployment is running already")
        _require_platform()
        _require_packages(self._settings.engine)
        _warn_unless_loopback(self._host)
        with shown(self._shows, "start", "embedded deployment") as self._wait:
            async with AsyncExitStack() as opened:
                server = await self._open(opened)
                self._opened = opened.pop_all()
        self._wait, self._server = None, server
        self._progress(f"ready at {self.base_url}")

    def _progress(self, line: str) -> None:
        self._on_progress(line)
        if self._wait is not None:
            self._wait.state(line)

    async def _open(self, opened: AsyncExitStack) -> Server:
        require_free(self._host, self._port)
        root = opened.enter_context(_folder(self._data_dir))
        storage = Storage.create(root)
        self._metrics = folder_of_environment() or root.absolute() / "metrics"
        if self._data_dir is not None and not self._key_given:
            self.api_key = _kept_key(root / "api_key", self.api_key)
            self._settings = attrs.evolve(self._settings, api_key=self.api_key)
        fleet = Fleet(
            storage,
            self._settings,
            temporary=self._data_dir is None,
            most=self._most,
            load_timeout=self._start_timeout,
            on_progress=self._progress,
        )
        opened.push_async_callback(fleet.aclose)
        try:
            await fleet.start()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        control_plane = ControlPlane(
            storage,
            fleet,
            api_key=self.api_key,
            host=self._host,
            url_lifetime=self._url_lifetime,
            metrics=self._metrics,
        )
        await control_plane.resume()
        server = Server(control_plane.app, host=self._host, port=self._port)
        await server.start()
        opened.push_async_callback(server.aclose)
        return server

    async def aclose(self) -> None:
        """End everything, within about five seconds. Safe to call twice; a cancelled call still ends everything."""
        opened, self._opened, self._server = self._opened, None, None
        if opened is None:
            return
        closing = asyncio.ensure_future(opened.aclose())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing  # bounded; leaving earlier would leave processes behind
            raise

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """The data directory, for this deployment alone."""
    if given is None:
        root = Path(tempfile.mkdtemp(prefix="loops-"))
        try:
            yield root
        finally:
            detach_and_remove(root)
        return
    try:
        given.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InvalidInputError(f"data_dir: {given} cannot be made ({error})") from error
    import fcntl  # what Windows does not have; see _require_platform

    with (given / "lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = f"data_dir: {given} is in use by another deployment; stop that one, or give another folder"
            raise InvalidInputError(text) from None
        yield given


def _kept_key(path: Path, fresh: str) -> str:
    """The key of earlier deployments on the same data directory, which their clients go on sending."""
    kept = (read_if_there(path) or b"").decode("ascii", "replace").strip()
    if kept:
        return kept
    write_atomically(path, fresh.encode() + b"\n", mode=0o600)
    return fresh


def _require_platform() -> None:
    if not hasattr(socket, "send_fds"):
        raise UnsupportedError(
            "the embedded deployment needs Linux or macOS, where a process can hand its sockets to another. On Windows "
            "run it in WSL, and set LOOPS_BASE_URL and BASETEN_API_KEY here to what `loops serve` prints there"
        )


def _require_packages(engine: str) -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None] if engine == _TORCH_ENGINE else []
    if missing:
        text = f"the embedded deployment needs {', '.join(missing)}: pip install 'loops-sdk[local]'"
        raise DeploymentFailedError(text)


def _warn_unless_loopback(host: str) -> None:
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        _log.warning("binding to %s: every machine that reaches it and has the key can use this deployment", host)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One failure is enough to say: the others are its echo."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
