"""The programs in tests/typing, which only type checkers read, hold right and wrong calls of everything."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest

import loops_sdk_sync

from .interface import ROOT

LINES = [line for path in sorted((ROOT / "tests" / "typing").glob("*.py")) for line in path.read_text().splitlines()]
RIGHT = "\n".join(line for line in LINES if "ignore[" not in line)
WRONG = "\n".join(line for line in LINES if "ignore[" in line)


def every() -> Iterator[str]:
    """Every public call of the blocking clients and of what stands beside them, in both forms."""
    for client in (loops_sdk_sync.ServiceClient, loops_sdk_sync.TrainingClient, loops_sdk_sync.SamplingClient):
        members = inspect.getmembers(client, inspect.isroutine)
        yield from (f"{client.__name__}.{name}" for name, _ in members if not name.startswith("_"))
    yield from (f"loops_sdk_sync.attach_reference_logprobs{form}" for form in ("", "_async"))


CALLS = list(every())


def called(name: str, text: str) -> bool:
    return re.search(rf"\b{name}\(", text) is not None


@pytest.mark.parametrize("call", CALLS)
def test_there_is_a_right_call(call: str) -> None:
    assert called(call.partition(".")[2], RIGHT)


@pytest.mark.parametrize("call", sorted({call.removesuffix("_async") for call in CALLS}))
def test_there_is_a_wrong_call(call: str) -> None:
    name = call.partition(".")[2]
    assert called(name, WRONG) or called(f"{name}_async", WRONG)


def test_both_checkers_refuse_each_wrong_call() -> None:
    """Both complain about an ignore that hides nothing, so an ignore of each says that each refuses the line."""
    alone = [line for line in WRONG.splitlines() if ("# type: ignore[" in line) != ("# pyright: ignore[" in line)]
    assert alone == []
