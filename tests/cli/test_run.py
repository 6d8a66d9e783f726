"""`loops run`: what is refused before anything is started. What it starts is in tests/end_to_end."""

from __future__ import annotations

import pytest

from .conftest import Loops


@pytest.mark.parametrize("options", [[], ["--tinker"]], ids=["plain", "tinker"])
async def test_a_script_that_does_not_exist(loops: Loops, options: list[str]) -> None:
    done = await loops("run", *options, "nowhere.py")
    assert (done.code, done.out) == (2, "")
    assert "SCRIPT: there is no file 'nowhere.py'" in done.err


async def test_help_says_what_the_script_is_given(loops: Loops) -> None:
    said = " ".join((await loops("run", "--help")).out.split())
    assert "[OPTIONS] SCRIPT [ARGS]" in said
    for name in ("LOOPS_BASE_URL", "BASETEN_API_KEY", "LOOPS_BASE_MODEL", "TINKER_BASE_URL", "TINKER_API_KEY"):
        assert name in said
