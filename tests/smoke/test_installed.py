"""What an installed wheel must be able to do without the source tree. Run by the nox session `wheel`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module, metadata, resources
from pathlib import Path

import pytest

PACKAGES = ["loops_sdk", "loops_sdk_sync"]

try:
    DISTRIBUTION = metadata.distribution("loops-sdk")
except metadata.PackageNotFoundError:
    pytest.skip("loops-sdk is not installed", allow_module_level=True)

ORIGIN = json.loads(DISTRIBUTION.read_text("direct_url.json") or "{}")
wheel_only = pytest.mark.skipif(
    bool(ORIGIN.get("dir_info", {}).get("editable")), reason="about the wheel, and this is an editable installation"
)


@wheel_only
@pytest.mark.parametrize("package", PACKAGES)
def test_both_packages_come_out_of_the_wheel(package: str) -> None:
    found = Path(str(import_module(package).__file__)).resolve()
    assert found in {Path(str(path.locate())).resolve() for path in DISTRIBUTION.files or ()}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_marker_for_type_checkers_is_there(package: str) -> None:
    assert resources.files(package).joinpath("py.typed").is_file()


def test_the_licence_is_there() -> None:
    assert DISTRIBUTION.metadata["License-Expression"] == "Apache-2.0"


def test_the_example_data_is_there() -> None:
    data = resources.files("loops_sdk") / "examples" / "data"
    assert any(path.name.endswith(".jsonl") for path in data.iterdir())


@wheel_only
def test_the_pages_are_there_without_what_makes_them() -> None:
    docs = resources.files("loops_sdk") / "docs"
    names = {path.name for path in (docs / "reference").iterdir()}
    assert {"index.md", "service.md", "training.md", "sampling.md", "types.md", "errors.md", "sync.md"} <= names
    assert [path.name for path in docs.iterdir() if path.name.endswith(".py")] == []


def test_the_command_is_there() -> None:
    command = Path(sys.executable).with_name("loops")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "quickstart" in done.stdout


def test_the_documentation_is_shown() -> None:
    command = [Path(sys.executable).with_name("loops"), "docs", "tutorial"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("# Ten minutes")


def test_the_base_model_is_there() -> None:
    weights = resources.files("loops_sdk.local.engine.tiny") / "weights"
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= {
        path.name for path in weights.iterdir()
    }


def test_the_local_page_is_there() -> None:
    web = resources.files("loops_sdk.local.control_plane.page") / "web"
    index = web.joinpath("index.html").read_text()
    assert 'src="/page/main.js"' in index
    named = re.findall(r'from "\./([a-z]+\.js)"', "".join(one.read_text() for one in web.iterdir()))
    assert {"main.js", "page.css", *named} <= {path.name for path in web.iterdir()}


@wheel_only
def test_the_documented_quickstart_runs() -> None:
    command = [Path(sys.executable).with_name("loops"), "examples", "run", "quickstart"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "completion:" in done.stdout


def test_examples_are_copied_out_of_the_package(tmp_path: Path) -> None:
    loops = [Path(sys.executable).with_name("loops"), "examples"]
    listed = subprocess.run([*loops, "list", "--json"], capture_output=True, text=True, timeout=60, check=True).stdout
    for example in json.loads(listed):
        into = tmp_path / example["name"]
        subprocess.run([*loops, "copy", example["name"], into], capture_output=True, timeout=60, check=True)
        assert list(into.rglob("*.py"))


@wheel_only
def test_scripts_for_other_packages_find_ours(tmp_path: Path) -> None:
    """In a child process, too: what tells children is a file that nothing imports."""
    script = tmp_path / "script.py"
    code = "import baseten.loops, tinker; print(tinker.__name__, baseten.loops.__name__)"
    script.write_text(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {code!r}], check=True)\n")
    command = [sys.executable, "-m", "loops_sdk_sync.tinker", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("loops_sdk_sync.tinker loops_sdk_sync.baseten\n", "")
