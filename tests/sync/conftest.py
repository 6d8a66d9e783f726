"""A whole deployment over engines without torch, on a loop of its own, for clients that block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loops_sdk.local import LocalStack
from loops_sdk_sync._portal import Portal

DOUBLES = Path(__file__).parents[1] / "local" / "doubles"
MODEL = "double/model"


@pytest.fixture(scope="module")
def doubles_can_be_imported() -> Iterator[pytest.MonkeyPatch]:
    """Here and in child processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOUBLES))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(DOUBLES), os.environ.get("PYTHONPATH", "")]))
        yield patch


@pytest.fixture(scope="module")
def stack(doubles_can_be_imported: pytest.MonkeyPatch) -> Iterator[LocalStack]:
    door = Portal()
    made = LocalStack(MODEL, engine="double_engine", api_key="the-key", max_processes=16)
    with doubles_can_be_imported.context() as patch:
        door.call(made.start)
        for name, value in made.env.items():
            patch.setenv(name, value)
        yield made
        door.call(made.aclose)
    door.close()
