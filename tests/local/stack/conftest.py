"""What the tests of whole deployments share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from ..conftest import DOUBLES


@pytest.fixture
def doubles_can_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """By the children, too; and temporary folders are where the test can see them."""
    monkeypatch.setenv("PYTHONPATH", str(DOUBLES))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    return temporary


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    # No connection outlives its request: one that does may belong to a process that has been killed.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session
