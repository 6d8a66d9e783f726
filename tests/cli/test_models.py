"""`loops models`."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Loops, Plane

OPEN: dict[str, Any] = {
    "model_name": "acme/model",
    "max_seq_len": 131072,
    "max_enabled_seq_len": 32768,
    "max_context_length": 131072,
    "supports_vision_language": True,
    "enabled": True,
}
DETAILS = {"reason": "needs_approval", "reason_detail": "it is gated", "remediation": "ask for it"}
CLOSED = {**OPEN, "model_name": "acme/big", "max_enabled_seq_len": 0, "supports_vision_language": False}


async def test_models_with_their_lengths_and_why_not(loops: Loops, plane: Plane) -> None:
    plane.models = [OPEN, {**CLOSED, "enabled": False, "enablement_details": DETAILS}, {**CLOSED, "enabled": False}]
    done = await loops("models")
    assert done.table == [
        ["MODEL", "LONGEST", "LONGEST HERE", "IMAGES", "ENABLED"],
        ["acme/model", "131,072", "32,768", "yes", "yes"],
        ["acme/big", "131,072", "0", "no", "no: it is gated; ask for it"],
        ["acme/big", "131,072", "0", "no", "no"],
    ]
    assert plane.asked[0].query == {}


async def test_filters_travel(loops: Loops, plane: Plane) -> None:
    await loops("models", "--model", "acme/model", "--use-case", "sft", "--max-seq-len", "4096")
    assert plane.asked[0].query == {"model": "acme/model", "use_case": "sft", "max_seq_len": "4096"}


async def test_json_is_the_full_records(loops: Loops, plane: Plane) -> None:
    plane.models = [{**CLOSED, "enabled": False, "enablement_details": DETAILS}]
    (model,) = (await loops("models", "--json")).json
    assert model["enablement_details"] == DETAILS
    assert model["max_seq_len"] == 131072


async def test_no_models(loops: Loops) -> None:
    assert (await loops("models")).out == "no models\n"
    assert (await loops("models", "--json")).out == "[]\n"


@pytest.mark.parametrize("args", [["--use-case", "dpo"], ["--max-seq-len", "0"], ["--max-seq-len", "many"]])
async def test_a_wrong_call_asks_nobody(loops: Loops, plane: Plane, args: list[str]) -> None:
    done = await loops("models", *args)
    assert (done.code, done.out, plane.asked) == (2, "", [])
