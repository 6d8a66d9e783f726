"""What is logged by us, and by whoever logs in a process that is ours, shows no key."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import subprocess
import sys

import aiohttp
import pytest
from aiohttp import web

import loops_sdk
from loops_sdk.instrumentation import RedactingFilter
from loops_sdk.local.serving import Server, application
from loops_sdk_sync import _futures

from .conftest import KEY

#: Programs, and what needs torch.
NOT_MODULES = ("torch_engine", "__main__", ".tiny.")


def loggers() -> dict[str, logging.Logger]:
    """The loggers that our modules hold, by where they stand."""
    names = [one.name for one in pkgutil.walk_packages(loops_sdk.__path__, "loops_sdk.")]
    modules = [importlib.import_module(name) for name in names if not any(part in name for part in NOT_MODULES)]
    modules.append(_futures)  # of the blocking clients nothing else logs
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, logging.Logger)
    }


def test_every_logger_of_ours_redacts() -> None:
    found = loggers()
    assert len(found) > 15
    bare = [place for place, one in found.items() if not any(isinstance(each, RedactingFilter) for each in one.filters)]
    assert bare == [], "take it from loops_sdk.instrumentation.redacting.logger"


async def test_a_server_that_fails_shows_no_key(everything_logged: pytest.LogCaptureFixture) -> None:
    key = "a-key-that-only-the-server-knows"
    app = application(api_key=key, form="plain")

    async def fail(_request: web.Request) -> web.Response:
        raise RuntimeError(f"nobody thought of {key}")

    app.router.add_get("/fail", fail)
    server = Server(app)
    await server.start()
    try:
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{server.port}/fail", headers=headers) as answer,
        ):
            assert answer.status == 500
            assert key not in await answer.text()
    finally:
        await server.aclose()
    assert "nobody thought of [redacted]" in everything_logged.text
    assert key not in everything_logged.text


CHILD = "from loops_sdk.local.stack.child import _log_to_stderr\n_log_to_stderr()\n"
COMMAND = "from loops_sdk.cli import main\ntry:\n    main(['--version'])\nexcept SystemExit:\n    pass\n"


@pytest.mark.parametrize("ours", [CHILD, COMMAND], ids=["a trainer or sampler", "a command"])
def test_what_others_log_in_our_processes_shows_no_key(ours: str) -> None:
    theirs = f"import logging\nlogging.getLogger('theirs').warning('sent %s', {{'Authorization': 'Bearer {KEY}'}})\n"
    done = subprocess.run([sys.executable, "-c", ours + theirs], capture_output=True, text=True, timeout=60, check=True)
    assert KEY not in done.stderr
    assert "sent {'Authorization': 'Bearer [redacted]'}" in done.stderr
