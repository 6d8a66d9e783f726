"""Paths of checkpoints in both spellings, and pages that are not there."""

from __future__ import annotations

import pytest

from loops_sdk import InvalidInputError, UnsupportedError
from loops_sdk_sync.tinker.types import (
    ParsedCheckpointTinkerPath,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
)

parse = ParsedCheckpointTinkerPath.from_tinker_path


@pytest.mark.parametrize(
    ("path", "kind", "of"),
    [
        ("tinker://run/weights/a", "weights", "training"),
        ("bt://loops:run/weights/a", "weights", "training"),
        ("tinker://run/sampler_weights/a", "sampler_weights", "sampler"),
        ("bt://loops:run/sampler_weights/a", "sampler_weights", "sampler"),
        ("tinker://run/external_weights/a", "external_weights", "external"),
    ],
)
def test_both_spellings_have_the_same_parts(path: str, kind: str, of: str) -> None:
    parsed = parse(path)
    assert parsed.model_dump() == {
        "tinker_path": f"tinker://run/{kind}/a",
        "training_run_id": "run",
        "checkpoint_type": of,
        "checkpoint_id": f"{kind}/a",
    }


@pytest.mark.parametrize(
    "path",
    [
        "",
        "run/weights/a",
        "tinker://run/weights",
        "tinker://run/a/b",
        "tinker://run/weights/a/b",
        "tinker://tinker://a",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidInputError, match="tinker_path: expected tinker://<run_id>/weights/<name>"):
        parse(path)


def test_an_address_of_loops_is_checked_as_everywhere() -> None:
    with pytest.raises(InvalidInputError, match="tinker_path: expected"):
        parse("bt://loops:run/weights/../b")


def test_there_are_no_pages_to_look_at() -> None:
    saved = SaveWeightsForSamplerResponse(path="tinker://run/sampler_weights/a")
    for call in (SaveWeightsResponse(path="x").get_console_url, saved.get_console_url, saved.get_playground_url):
        with pytest.raises(UnsupportedError, match=f"{call.__name__}: leads to a page"):
            call()
