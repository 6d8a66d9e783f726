"""What is not there says why, and what is there costs nothing that it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from loops_sdk_sync.tinker import types


@pytest.mark.parametrize("reason", types._LEFT_OUT)
def test_a_name_that_is_left_out_says_why(reason: str) -> None:
    for name in types._LEFT_OUT[reason].split():
        with pytest.raises(AttributeError, match=f"tinker.types.{name} is left out on purpose: "):
            getattr(types, name)


def test_a_name_that_never_was_is_unknown() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Datums'"):
        _ = types.Datums
    with pytest.raises(ImportError):
        from loops_sdk_sync.tinker.types import Datums  # noqa: F401


def test_all_is_sorted_and_true() -> None:
    assert types.__all__ == sorted(types.__all__)
    assert [name for name in types.__all__ if not hasattr(types, name)] == []


def test_importing_the_types_loads_no_heavy_guest() -> None:
    heavy = "{'torch', 'pydantic', 'httpx', 'transformers'}"
    code = (
        f"import sys, loops_sdk_sync.tinker.types, loops_sdk_sync.tinker._exceptions; print({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
