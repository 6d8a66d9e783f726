"""What `import loops_sdk` may cost a user: no heavy guest is loaded, and the front doors list what they show."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ["torch", "transformers", "peft", "wandb", "numpy", "anyio", "rich", "click", "gguf", "safetensors"]


def loaded_by(statement: str) -> set[str]:
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("package", ["loops_sdk", "loops_sdk_sync", "loops_sdk_sync.baseten", "loops_sdk_sync.tinker"])
def test_importing_a_front_door_loads_no_heavy_guest(package: str) -> None:
    modules = loaded_by(f"import {package}")
    assert package in modules
    assert modules.isdisjoint(HEAVY), sorted(modules.intersection(HEAVY))


def test_the_probe_sees_a_heavy_guest() -> None:
    assert "numpy" in loaded_by("import loops_sdk, numpy")


@pytest.mark.parametrize("package", ["loops_sdk", "loops_sdk.types", "loops_sdk.errors", "loops_sdk_sync"])
def test_all_is_sorted_and_true(package: str) -> None:
    module = __import__(package, fromlist=["__all__"])
    names = module.__all__
    assert names == sorted(names)
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("package", ["loops_sdk", "loops_sdk_sync"])
def test_nothing_public_is_left_out_of_all(package: str) -> None:
    module = __import__(package)
    public = {name for name, value in vars(module).items() if not name.startswith("_") and not _is_module(value)}
    assert public - set(module.__all__) - {"annotations", "TYPE_CHECKING"} == set()


def _is_module(value: object) -> bool:
    return type(value).__name__ == "module"
