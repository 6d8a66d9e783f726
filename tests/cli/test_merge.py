"""`loops checkpoints merge`: of a folder and of a checkpoint, and what it says when it cannot. What a merge computes
is tested where it is done.
"""

from __future__ import annotations

import getpass
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from loops_sdk.cli import merge

from .adapter_files import adapter_at, adapter_files, is_there, names
from .conftest import ADDRESS, Loops, Plane, checkpoint_record

torch = pytest.importorskip("torch")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "mer ged"


def changed_layer(out: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(out / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]


async def test_a_folder(loops: Loops, plane: Plane, out: Path, tmp_path: Path) -> None:
    done = await loops("checkpoints", "merge", str(adapter_at(tmp_path / "adapter")), str(out))
    assert (done.code, done.out) == (0, f"merged 1 layer of rank 4 into loops/tiny: 4.7 MB, in {out}\n")
    assert done.err == f"to serve it: loops checkpoints vllm '{out}'\n"
    assert plane.asked == []
    assert changed_layer(out).dtype == torch.bfloat16


@pytest.mark.parametrize("checkpoint", ["id-step-1", ADDRESS])
async def test_a_checkpoint_is_fetched_and_not_kept(
    loops: Loops, plane: Plane, out: Path, tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plane.files = adapter_files()
    plane.checkpoints = [checkpoint_record(base_model="loops/tiny")]
    done = await loops("checkpoints", "merge", checkpoint, str(out), "--dtype", "float32", "--json")
    assert done.code == 0, done.err
    assert done.json == {
        "folder": str(out),
        "base_model": "loops/tiny",
        "layers": 1,
        "files": [str(out / "model.safetensors")],
        "untied": False,
    }
    assert changed_layer(out).dtype == torch.float32
    # Whoever imports torch for the first time also has a folder of its own there.
    assert set(names(tmp_path)) - {out.name} <= {f"torchinductor_{getpass.getuser()}"}


async def test_the_service_knows_a_base_model_that_is_elsewhere_for_the_adapter(
    loops: Loops, plane: Plane, out: Path
) -> None:
    plane.files = adapter_files(base_model_name_or_path="/srv/other/machine/weights")
    plane.checkpoints = [checkpoint_record(base_model="loops/tiny")]
    assert (await loops("checkpoints", "merge", ADDRESS, str(out))).code == 0


async def test_a_base_model_that_is_not_here_says_how_to_name_one(loops: Loops, out: Path, tmp_path: Path) -> None:
    folder = adapter_at(tmp_path / "adapter", base_model_name_or_path="/srv/other/machine/weights")
    done = await loops("checkpoints", "merge", str(folder), str(out))
    assert (done.code, is_there(out)) == (1, False)
    assert done.err == (
        "InvalidInputError: base_model: there is no folder /srv/other/machine/weights (that is what "
        "the adapter names; --base-model says what to take instead)\n"
    )
    assert (await loops("checkpoints", "merge", str(folder), str(out), "--base-model", "loops/tiny")).code == 0


async def test_an_adapter_that_names_no_base_model(loops: Loops, out: Path, tmp_path: Path) -> None:
    folder = adapter_at(tmp_path / "adapter", base_model_name_or_path=None)
    done = await loops("checkpoints", "merge", str(folder), str(out))
    assert done.code == 2
    assert "does not name its base model: give --base-model" in done.err


async def test_a_checkpoint_without_an_adapter_is_called_by_its_name(loops: Loops, plane: Plane, out: Path) -> None:
    plane.files = {"optimizer.bin": b"1", "weights.bin": b"2"}
    done = await loops("checkpoints", "merge", ADDRESS, str(out))
    assert (done.code, is_there(out)) == (1, False)
    assert f"adapter: {ADDRESS} has no adapter_config.json: it holds the state of a trainer" in done.err


@pytest.mark.parametrize("source", ["./adapter", "a/b", "~/adapter", "bt://r1", ""])
async def test_what_is_neither_a_folder_nor_a_checkpoint(loops: Loops, plane: Plane, out: Path, source: str) -> None:
    done = await loops("checkpoints", "merge", source, str(out))
    assert (done.code, plane.asked, is_there(out)) == (2, [], False)
    assert "Usage: " in done.err


async def test_a_folder_that_is_not_empty(loops: Loops, out: Path, tmp_path: Path) -> None:
    folder = adapter_at(tmp_path / "adapter")
    done = await loops("checkpoints", "merge", str(folder), str(folder))
    assert done.code == 1
    assert re.search(r"InvalidInputError: out: .* is not empty; give a new or an empty folder", done.err)


async def test_without_torch_the_line_to_install_it(
    loops: Loops, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "torch" else find(name, *more))
    done = await loops("checkpoints", "merge", str(adapter_at(tmp_path / "adapter")), str(out))
    assert (done.code, done.err) == (
        1,
        "Error: merging needs torch, which is not installed: pip install 'loops-sdk[local]'\n",
    )


def test_the_types_are_those_that_can_be_written() -> None:
    from loops_sdk.local.engine.torch_engine.merge_plan import DTYPES

    choice = next(option.type for option in merge.params if option.name == "dtype")
    assert list(choice.choices) == list(DTYPES)  # type: ignore[attr-defined]


async def test_whatever_was_interrupted_leaves_nothing(
    loops: Loops, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loops_sdk.local.engine.torch_engine import merging

    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    folder = adapter_at(tmp_path / "adapter")
    monkeypatch.setattr(merging, "save_file", interrupted)
    done = await loops("checkpoints", "merge", str(folder), str(out))
    assert (done.code, done.err.strip()) == (130, "interrupted")
    assert names(tmp_path) == ["adapter"]
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 4
