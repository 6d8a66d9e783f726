"""This machine: versions, GPU, room on the disks, open files, a port. torch is loaded only where it is installed."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from loops_sdk._net.gate import most_connections
from loops_sdk.cli.checkup.findings import Check, Finding

__all__ = ["machine", "ours"]

_NAME = "loops-sdk"
_FEWEST_CONNECTIONS = 900
_ROOM, _LEAST_ROOM = 10 * 10**9, 10**9


def machine(*, local: bool, data_dir: Path | None) -> list[tuple[str, Check]]:
    """The checks of this machine.

    Args:
        local: whether the embedded deployment must work.
        data_dir: where it is to keep its runs; `None` means a temporary folder.
    """
    folders = {"temporary folder": Path(tempfile.gettempdir()), "models": _models()}
    if data_dir is not None:
        folders["data directory"] = data_dir
    return [
        ("versions", partial(_versions, local)),
        ("GPU", _gpu),
        *((name, partial(_folder, name, path)) for name, path in folders.items()),
        ("open files", _files),
        ("port", _port),
    ]


def ours() -> str:
    """The version of this package, also where it is not installed."""
    try:
        return importlib.metadata.version(_NAME)
    except importlib.metadata.PackageNotFoundError:
        return f"not installed, from {Path(__file__).parents[3]}"


async def _versions(local: bool) -> AsyncIterator[Finding]:
    yield Finding("python", "fine", f"{platform.python_version()}, {platform.platform(terse=True)}")
    yield Finding(_NAME, "fine", ours())
    main, extra = _requirements()
    if problems := list(_unmet(main)):
        yield Finding("packages", "broken", "; ".join(problems), f"pip install --upgrade {_NAME}")
    elif main:
        yield Finding("packages", "fine", f"all {len(main)} are there")
    if not hasattr(socket, "send_fds"):  # see LocalStack
        told = "the embedded deployment needs Linux or macOS"
        yield Finding("extra local", "broken" if local else "remark", told, "run it in WSL")
        return
    missing = list(_unmet(extra)) or [name for name in ("torch", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        told = f"the embedded deployment cannot run: {'; '.join(missing)}"
        yield Finding("extra local", "broken" if local else "remark", told, f"pip install '{_NAME}[local]'")
    else:
        yield Finding("extra local", "fine", f"torch {_version('torch')}, peft {_version('peft')}")


def _requirements() -> tuple[list[Requirement], list[Requirement]]:
    """What the package needs, and what its extra `local` needs besides; nothing where it is not installed."""
    try:
        every = [Requirement(text) for text in importlib.metadata.requires(_NAME) or ()]
    except importlib.metadata.PackageNotFoundError:
        return [], []
    main = [one for one in every if one.marker is None or one.marker.evaluate({"extra": ""})]
    extra = [one for one in every if one not in main and one.marker and one.marker.evaluate({"extra": "local"})]
    return main, extra


def _unmet(requirements: list[Requirement]) -> Iterator[str]:
    for one in requirements:
        version = _version(one.name)
        if version is None:
            yield f"{one.name} is missing"
        elif not one.specifier.contains(version, prereleases=True):
            yield f"{one.name} is {version}, {one.specifier} is needed"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


async def _gpu() -> AsyncIterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding("GPU", "fine", "not looked for, there is no torch")
    else:
        yield await asyncio.to_thread(_gpu_of_torch)


def _gpu_of_torch() -> Finding:
    torch: Any = importlib.import_module("torch")
    if torch.cuda.is_available():
        count, first = torch.cuda.device_count(), torch.cuda.get_device_properties(0)
        return Finding("GPU", "fine", f"{count} x {first.name}, {first.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        return Finding("GPU", "fine", "Metal (mps)")
    if shutil.which("nvidia-smi") and torch.version.cuda is None:
        way = "pip install torch from an index with CUDA, see https://pytorch.org"
        return Finding("GPU", "remark", "there is one, but this torch is built for processors only", way)
    return Finding("GPU", "fine", f"none; the embedded deployment computes on {os.cpu_count()} processors")


def _models() -> Path:
    """Where transformers keeps what it downloads."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


async def _folder(name: str, path: Path) -> AsyncIterator[Finding]:
    yield await asyncio.to_thread(_look_at, name, path)


def _look_at(name: str, path: Path) -> Finding:
    there = next((one for one in (path, *path.absolute().parents) if one.exists()), path)
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        way = "give another folder, with --data-dir, TMPDIR or HF_HOME"
        return Finding(name, "broken", f"{path} cannot be written to ({error.strerror or error})", way)
    told = f"{path}, {free / 1e9:.1f} GB free"
    if free < _ROOM:
        return Finding(name, "broken" if free < _LEAST_ROOM else "remark", told, "checkpoints and models need more")
    return Finding(name, "fine", told)


async def _files() -> AsyncIterator[Finding]:
    most = most_connections()
    if most < _FEWEST_CONNECTIONS:
        told = f"enough for {most} connections at a time; more samples at once wait for one another"
        yield Finding("open files", "remark", told, "ulimit -n 8192, before the program starts")
    else:
        unlimited = " (Windows does not limit them)" if sys.platform == "win32" else ""
        yield Finding("open files", "fine", f"enough for {most} connections at a time{unlimited}")


async def _port() -> AsyncIterator[Finding]:
    try:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                pass
    except OSError as error:
        way = "does a firewall or sandbox forbid servers on 127.0.0.1?"
        yield Finding("port", "broken", f"no program can listen on this machine ({error})", way)
    else:
        yield Finding("port", "fine", "programs can listen and connect on 127.0.0.1")
