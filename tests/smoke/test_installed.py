"""What an installed wheel must be able to do without the source tree. Run by the nox session `wheel`."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module, metadata, resources
from pathlib import Path

import pytest

PACKAGES = ["loops_sdk", "loops_sdk_sync"]


@pytest.mark.parametrize("package", PACKAGES)
def test_both_packages_come_from_where_the_metadata_says(package: str) -> None:
    found = Path(str(import_module(package).__file__)).resolve()
    listed = metadata.files("loops-sdk")
    assert listed, "loops-sdk is not installed"
    if any(path.name == f"{package}.pth" or "_loops_sdk" in path.name for path in listed):
        pytest.skip("an editable installation")
    assert found in {Path(str(path.locate())).resolve() for path in listed}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_marker_for_type_checkers_is_there(package: str) -> None:
    assert resources.files(package).joinpath("py.typed").is_file()


def test_the_licence_is_there() -> None:
    assert metadata.metadata("loops-sdk")["License-Expression"] == "Apache-2.0"


def test_the_example_data_is_there() -> None:
    data = resources.files("loops_sdk") / "examples" / "data"
    assert any(path.name.endswith(".jsonl") for path in data.iterdir())


def test_the_command_is_there() -> None:
    command = Path(sys.executable).with_name("loops")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "quickstart" in done.stdout
