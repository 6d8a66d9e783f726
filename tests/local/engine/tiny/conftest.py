"""The shipped model, loaded once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from loops_sdk.local.engine.tiny import WEIGHTS
from loops_sdk.local.engine.tiny.measure import Reader


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> Reader:
    return Reader(WEIGHTS)
