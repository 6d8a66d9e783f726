"""The README's table of names holds, and each way in which it could cease to hold is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

import loops_sdk
import loops_sdk_sync

from . import interface
from .interface import ROOT, faults, read

README = (ROOT / "README.md").read_text()


def test_every_name_is_in_the_code_in_both_packages_and_has_a_test() -> None:
    assert faults(README) == []


def test_the_table_says_what_it_compares() -> None:
    rows = {row.name: row for row in read(README)}
    assert len(rows) > 150
    assert rows["TrainingClient.save_state"].parameters == ("name", "ttl_seconds")
    assert rows["TrainingClient.save_state"].tests[0] == "clients/test_training.py::test_a_save"
    assert rows["TrainingClient.run_id"].parameters is None
    assert {row.kind for row in rows.values()} == {"code", "variable", "text"}


# ------------------------------------------------------------------ faults in the table


def spoilt(old: str, new: str) -> str:
    assert README.count(old) == 1, f"{old!r} stands {README.count(old)} times in the README"
    return README.replace(old, new)


def line_of(name: str) -> str:
    (line,) = [line for line in README.splitlines(keepends=True) if line.startswith(f"| `{name}")]
    return line


SAVE, SAVED = "TrainingClient.save_state(name, ttl_seconds)", "clients/test_training.py::test_a_save"
FAULTS: dict[str, tuple[str, str, str]] = {
    "a method left out": (line_of(SAVE), "", "TrainingClient.save_state: has no row"),
    "a property left out": (line_of("TrainingClient.run_id"), "", "TrainingClient.run_id: has no row"),
    "a type left out": (line_of("AdamParams"), "", "AdamParams: has no row"),
    "an error left out": (line_of("RemoteOpError"), "", "RemoteOpError: has no row"),
    "a variable left out": (line_of("LOOPS_TEAM"), "", "LOOPS_TEAM: has no row"),
    "a row twice": (line_of("S3_REGION"), line_of("S3_REGION") * 2, "S3_REGION: has two rows"),
    "a name of nothing": (
        SAVE,
        "TrainingClient.save_all(name)",
        "loops_sdk.TrainingClient.save_all: not in the code",
    ),
    "a misspelt parameter": (
        SAVE,
        "TrainingClient.save_state(name, ttl)",
        "loops_sdk_sync.TrainingClient.save_state_async: takes (name, ttl_seconds), the table says (name, ttl)",
    ),
    "a parameter left out": (
        SAVE,
        "TrainingClient.save_state(name)",
        "loops_sdk.TrainingClient.save_state_async: takes (name, ttl_seconds), the table says (name)",
    ),
    "a method as a property": (
        "`TrainingClient.get_info()`",
        "`TrainingClient.get_info`",
        "loops_sdk_sync.TrainingClient.get_info: is called, the table shows no ()",
    ),
    "a property as a method": (
        "`TrainingClient.policy_version`",
        "`TrainingClient.policy_version()`",
        "loops_sdk_sync.TrainingClient.policy_version: is not called, the table shows ()",
    ),
    "a type without its fields": (
        "`WandbConfig(project, name)`",
        "`WandbConfig`",
        "WandbConfig: is constructed, the table shows no parameters",
    ),
    "a variable that nobody reads": (
        "`S3_REGION`",
        "`S3_REGION` `S3_ZONE`",
        "S3_ZONE: no environment variable that the code reads",
    ),
    "a text that nobody sends": ('`"SCALED_TO_ZERO"`', '`"SCALED_TO_ONE"`', '"SCALED_TO_ONE": not in the code'),
    "a test that is not there": (
        f"| `{SAVE}` | `{SAVED}`",
        f"| `{SAVE}` | `{SAVED}d`",
        f"TrainingClient.save_state: there is no test {SAVED}d",
    ),
    "a module that is not there": (
        f"| `{SAVE}` | `{SAVED}`",
        f"| `{SAVE}` | `clients/test_saving.py::test_a_save`",
        "TrainingClient.save_state: there is no test clients/test_saving.py::test_a_save",
    ),
    "a function that is no test": (
        f"| `{SAVE}` | `{SAVED}`",
        f"| `{SAVE}` | `clients/test_training.py::started`",
        "TrainingClient.save_state: there is no test clients/test_training.py::started",
    ),
    "a test of something else": (
        f"| `{SAVE}` | `{SAVED}`",
        f"| `{SAVE}` | `{SAVED}`<br>`wire/test_retrieval.py::test_done`",
        "TrainingClient.save_state: wire/test_retrieval.py::test_done mentions neither it nor a parameter",
    ),
    "a parameter that no test gives": (
        "`cli/test_download.py::test_so_many_at_the_same_time_and_no_more`",
        "`end_to_end/test_downloads.py::test_both_front_doors_download`",
        "ServiceClient.download_checkpoint: no test of its row mentions on_progress",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_table_is_told(name: str) -> None:
    old, new, told = FAULTS[name]
    assert told in faults(spoilt(old, new))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (line_of(SAVE), f"| `{SAVE}` | |\n", "no row of"),
        (line_of(SAVE), f"| {SAVE} | `{SAVED}` |\n", "no row of"),
        (SAVE, "TrainingClient.save_state(name", "no name with or without parameters"),
        (interface.TITLE, "## Names", "the last section of the README is not"),
    ],
    ids=["no test", "no name", "no end", "no table"],
)
def test_what_is_no_row_is_refused(old: str, new: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        faults(spoilt(old, new))


# ------------------------------------------------------------------ faults of the code and of the tests

CALLS = ["TrainingClient.forward_backward", "ServiceClient.local", "SamplingClient.sample", "TrainingClient.close"]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("package", [loops_sdk, loops_sdk_sync], ids=lambda package: package.__name__)
def test_a_call_that_is_gone_from_a_package_is_told(monkeypatch: pytest.MonkeyPatch, package: Any, name: str) -> None:
    places = [place for place, _ in interface._forms(name) if place.startswith(f"{package.__name__}.")]
    assert places
    for place in places:
        _, owner, member = place.split(".")
        with monkeypatch.context() as patch:
            patch.delattr(getattr(package, owner), member)
            assert f"{place}: not in the code" in faults(README)


def test_a_new_call_a_new_parameter_and_a_new_name_have_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    async def shrink_async(self: Any) -> None: ...

    def close(self: Any, force: bool = False) -> None: ...

    async def health_async(self: Any, *, deep: bool) -> None: ...

    monkeypatch.setattr(loops_sdk.TrainingClient, "shrink_async", shrink_async, raising=False)
    monkeypatch.setattr(loops_sdk.TrainingClient, "health_async", health_async)
    monkeypatch.setattr(loops_sdk_sync.SamplingClient, "close", close)
    monkeypatch.setattr(loops_sdk, "__all__", [*loops_sdk.__all__, "__doc__"])
    told = faults(README)
    assert "TrainingClient.shrink: has no row" in told
    assert "loops_sdk.TrainingClient.health_async: takes (deep), the table says ()" in told
    assert "loops_sdk_sync.SamplingClient.close: takes (force), the table says ()" in told
    assert "__doc__: has no row" in told


def test_a_type_with_a_new_field_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    more = attrs.make_class("WandbConfig", {"group": attrs.field(default=None)}, bases=(loops_sdk.WandbConfig,))
    monkeypatch.setattr(loops_sdk, "WandbConfig", more)
    assert faults(README) == ["loops_sdk.WandbConfig: takes (project, name, group), the table says (project, name)"]


def test_a_test_is_read_with_what_it_names(tmp_path: Path) -> None:
    """Its decorators, and constants and functions of its module, however far away; nothing else."""
    (tmp_path / "test_it.py").write_text(
        "FAR = 'save_state'\nNEAR: list = [FAR]\nOTHER = 'load_state'\n\n\n"
        "def helper():\n    return NEAR\n\n\n@mark('name')\nasync def test_it():\n    helper()\n"
    )
    code = interface._code(tmp_path / "test_it.py", "test_it")
    assert code is not None
    assert [interface._mentions(code, word) for word in ("save_state", "name", "load_state")] == [True, True, False]
    assert [interface._code(tmp_path / "test_it.py", name) for name in ("helper", "test_others")] == [None, None]
    assert interface._mentions("self.save_state_async(1)", "save_state")
    assert not interface._mentions("presave_state save_states", "save_state")
