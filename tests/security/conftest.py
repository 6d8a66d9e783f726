"""A key that must not be found, and everything that is logged while a test runs."""

from __future__ import annotations

import pytest

KEY = "sk-of-the-security-tests-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BASETEN_API_KEY", KEY)
    for name in ("LOOPS_BASE_URL", "LOOPS_TEAM", "S3_REGION"):
        monkeypatch.delenv(name, raising=False)
    return KEY


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All levels of all loggers."""
    caplog.set_level(0)
    for name in ("asyncio", "aiohttp.client", "aiohttp.internal", "loops_sdk"):
        caplog.set_level(1, logger=name)
    return caplog
