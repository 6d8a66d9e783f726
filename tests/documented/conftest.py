"""A deployment for all pages, and a folder for each, in which `loops` and `python` are those of this environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..served import Serving, serving
from .blocks import ROOT
from .reader import Reader


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("deployment")) as running:
        yield running


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what readers have on their path."""
    folder = tmp_path_factory.mktemp("bin")
    for name, command in (("python", "-P"), ("loops", "-P -m loops_sdk")):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        path.chmod(0o755)
    return folder


@pytest.fixture
def reader(deployment: Serving, commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """In an empty folder, with the lines that `loops serve` prints in the environment."""
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.setenv("LOOPS_BASE_URL", deployment.base_url)
    monkeypatch.setenv("BASETEN_API_KEY", deployment.api_key)
    monkeypatch.setenv("LOOPS_BASE_MODEL", "loops/tiny")
    monkeypatch.setenv("LOOPS_METRICS_DIR", str(tmp_path / "metrics"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", os.pathsep.join([str(commands), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.chdir(folder)
    yield Reader(folder)
    deployment.end_runs()
