"""Windows and macOS are not assumed away: what only Linux has is used where it is looked for first, and both packages
work where it is not there, but for the embedded deployment, which says so.
"""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loops_sdk._clients import checkpoint_folder
from loops_sdk._clients.checkpoint_folder import check_names
from loops_sdk.cli.signals import in_foreground, on_signal
from loops_sdk.errors import ProtocolError
from loops_sdk.types import CheckpointFile

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("loops_sdk", "loops_sdk_sync") for path in (ROOT / package).rglob("*.py"))
#: Modules that Windows does not have; to be imported in functions, or where the platform was asked.
UNIX = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "syslog"}
#: Of `os`, `socket` and `signal`, and where it may stand: what only the embedded deployment's processes do.
OF_UNIX = {
    "fork", "forkpty", "getpgid", "setsid", "killpg", "getuid", "geteuid", "sysconf", "mkfifo", "send_fds", "recv_fds",
    "AF_UNIX", "SO_REUSEPORT", "SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "setitimer", "pass_fds",
}  # fmt: skip
DEPLOYMENT = ROOT / "loops_sdk" / "local"
LISTENS_TO_SIGNALS = {ROOT / "loops_sdk" / "cli" / "signals.py", DEPLOYMENT / "stack" / "child.py"}


def problems(path: Path, text: str) -> Iterator[str]:
    tree = ast.parse(text)
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in statement.names}
            yield from (f"imports {name}" for name in UNIX & {*names, getattr(statement, "module", None)})
    for node in ast.walk(tree):
        line = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute) and node.attr in OF_UNIX and not path.is_relative_to(DEPLOYMENT):
            yield f"{line}: {node.attr}"
        if isinstance(node, ast.Attribute) and node.attr == "add_signal_handler" and path not in LISTENS_TO_SIGNALS:
            yield f"{line}: add_signal_handler; take loops_sdk.cli.signals"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(("/tmp", "/var/")):
            yield f"{line}: {node.value!r}; take tempfile"
        if isinstance(node, ast.Call) and _is_text_without_encoding(node):
            yield f"{line}: text without encoding="


def _is_text_without_encoding(call: ast.Call) -> bool:
    if any(keyword.arg in ("encoding", None) for keyword in call.keywords):
        return False
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in ("read_text", "write_text"):
        return True
    is_open = name == "open" and isinstance(call.func, ast.Name)
    modes = [one.value for one in (*call.args, *(k.value for k in call.keywords)) if isinstance(one, ast.Constant)]
    if name == "open" and isinstance(call.func, ast.Attribute):  # of a path; other things open as well, without a mode
        return any(isinstance(mode, str) and set(mode) <= set("rwax+t") and mode for mode in modes)
    return is_open and not any(isinstance(mode, str) and "b" in mode for mode in modes)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_taken_for_granted(path: Path) -> None:
    assert list(problems(path, path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "import fcntl",
        "from resource import getrlimit",
        "import os\nos.fork()",
        "import signal\nprint(signal.SIGKILL)",
        "loop.add_signal_handler(2, print)",
        "folder = '/tmp/loops'",
        "open('a')",
        "open('a', 'w')",
        "path.open('w')",
        "path.read_text()",
        "path.write_text('a')",
    ],
)
def test_a_planted_one_is_found(text: str) -> None:
    assert list(problems(ROOT / "loops_sdk" / "planted.py", text))


@pytest.mark.parametrize(
    "text",
    [
        "def late():\n    import fcntl",
        "import sys\nif sys.platform != 'win32':\n    import resource",
        "open('a', 'rb')",
        "open('a', encoding='utf-8')",
        "path.open('ab')",
        "stack.open()",
    ],
)
def test_what_is_right_is_not(text: str) -> None:
    assert list(problems(ROOT / "loops_sdk" / "planted.py", text)) == []


#: As near to Windows as another system gets: what that lacks is gone before anything of ours is imported.
WINDOWS = """
import asyncio, os, signal, socket, sys
import aiohttp, anyio, attrs, cattrs, click, numpy, orjson, packaging.requirements, rich.console, rich.progress
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for module, names in (
    (os, "register_at_fork fork getpgrp tcgetpgrp getpgid setsid killpg sysconf getuid geteuid"),
    (socket, "send_fds recv_fds SO_REUSEPORT"),
    (signal, "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGALRM"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
def unavailable(self, *arguments):
    raise NotImplementedError
asyncio.SelectorEventLoop.add_signal_handler = unavailable
sys.platform = "win32"
"""


def on_windows(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "BASETEN_API_KEY": "a-key", "LOOPS_BASE_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", WINDOWS + program, *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_both_packages_can_be_imported_and_used() -> None:
    program = """
import loops_sdk, loops_sdk.local, loops_sdk_sync, loops_sdk_sync.local, loops_sdk_sync.tinker
with loops_sdk_sync.ServiceClient.local(trainer_url="http://127.0.0.1:9") as service:
    print(service)
"""
    done = on_windows(program)
    assert (done.returncode, done.stderr) == (0, "")
    assert "127.0.0.1:9" in done.stdout


@pytest.mark.parametrize(
    "args", [["--help"], ["doctor", "--local", "--json"], ["runs", "list", "--help"]], ids=" ".join
)
def test_the_command_runs(args: list[str]) -> None:
    done = on_windows("from loops_sdk.cli import main; main()", *args)
    assert done.stderr == ""
    assert done.returncode == (1 if "doctor" in args else 0)  # no deployment can run there, and --local wants one
    assert ("needs Linux or macOS" in done.stdout) == ("doctor" in args)


def test_the_embedded_deployment_says_that_it_cannot_run() -> None:
    done = on_windows("from loops_sdk.cli import main; main()", "serve")
    assert done.returncode == 1
    assert "UnsupportedError: the embedded deployment needs Linux or macOS" in done.stderr
    assert "LOOPS_BASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


async def test_signals_where_loops_do_not_take_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_arguments: object) -> None:
        raise NotImplementedError

    came = asyncio.Event()
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", unavailable)
    try:
        on_signal(signal.SIGTERM, came.set)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(came.wait(), 5)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_console_without_process_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "tcgetpgrp", raising=False)
    monkeypatch.setattr(sys, "__stdin__", None)
    assert in_foreground() is False


def files(*names: str) -> list[CheckpointFile]:
    return [CheckpointFile("http://x/", name, 0, 1, "") for name in names]


@pytest.mark.parametrize("name", ["ab:c", "con", "sub/NUL.json", "what?", "ends.", "a|b"])
def test_names_that_windows_does_not_write(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_names(files(name))
    monkeypatch.setattr(checkpoint_folder.sys, "platform", "win32")
    with pytest.raises(ProtocolError, match="no path inside a folder"):
        check_names(files(name))


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_names_that_differ_in_capitals_only(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_names(files("a.json", "A.json"))
    monkeypatch.setattr(checkpoint_folder.sys, "platform", platform)
    with pytest.raises(ProtocolError, match="both want to be called"):
        check_names(files("a.json", "A.json"))
