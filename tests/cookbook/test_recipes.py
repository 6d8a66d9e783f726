"""The cookbook's own flat loops, as they lie in the package: `sl_loop` and `rl_loop`.

They look up renderers by the model's name and load their data by names of the hub. Both look for a folder of that name
first, so folders of these names are what they get here: the recipes are what was installed.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import tinker_cookbook

from ..served import serving
from .conftest import MODEL, Cookbook, column, rows, write_rows

RECIPES = Path(tinker_cookbook.__file__).parent / "recipes"
NAME = "Qwen/Qwen3-8B-Base"
SUMS = [(a, b) for a in range(5) for b in range(5)]
CONFIGS = "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: train.jsonl\n---\n"


def no_robots() -> Iterator[object]:
    """Conversations of two sums each, asked and answered in the form that `rl_loop` wants."""
    draw = random.Random(0)
    for _ in range(320):
        yield {"messages": [said for a, b in draw.sample(SUMS, 2) for said in exchange(a, b)]}


def exchange(a: int, b: int) -> list[dict[str, str]]:
    asked = f"What is {a} + {b}? Provide a numerical answer without units, written inside \\boxed{{}}."
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": f"\\boxed{{{a + b}}}"}]


def gsm8k() -> Iterator[object]:
    for a, b in SUMS:
        yield {"question": f"What is {a} + {b}?", "answer": f"{a} + {b} = {a + b}\n#### {a + b}"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a model and two sets of data under the names by which the recipes ask for them."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / NAME).parent.mkdir(parents=True)
    (folder / NAME).symlink_to(MODEL)
    write_rows(folder / "HuggingFaceH4" / "no_robots" / "train.jsonl", no_robots())
    write_rows(folder / "openai" / "gsm8k" / "train.jsonl", gsm8k())
    (folder / "openai" / "gsm8k" / "README.md").write_text(CONFIGS)
    return folder


@pytest.fixture(scope="module")
def recipes(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cookbook]:
    data_dir = tmp_path_factory.mktemp("data")
    with contextlib.chdir(hub), serving(data_dir, "--base-model", NAME) as server:
        yield Cookbook(server, hub, tmp_path_factory.mktemp("hf"))


@pytest.fixture(scope="module")
def taught(recipes: Cookbook, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a run of `sl_loop`."""
    log_path = tmp_path_factory.mktemp("sl_loop")
    _sl_loop(recipes, log_path)
    return log_path


def _sl_loop(recipes: Cookbook, log_path: Path) -> None:
    recipes.run(
        RECIPES / "sl_loop.py",
        model_name=NAME,
        log_path=log_path,
        batch_size=8,
        learning_rate=6e-3,
        lora_rank=16,
        max_length=256,
        save_every=15,
    )


def test_sl_loop(taught: Path) -> None:
    loss = column(taught, "train_mean_nll")
    assert len(loss) == 40
    assert loss[-1] < loss[0] / 2


def test_sl_loop_goes_on_with_weights_and_moments_of_its_checkpoint(
    recipes: Cookbook, taught: Path, tmp_path: Path
) -> None:
    checkpoints = rows(taught, "checkpoints.jsonl")
    assert [saved["name"] for saved in checkpoints] == ["000015", "000030", "final"]
    write_rows(tmp_path / "checkpoints.jsonl", checkpoints[:2])
    _sl_loop(recipes, tmp_path)
    assert column(tmp_path, "step") == list(range(30, 40))
    assert column(tmp_path, "train_mean_nll") == pytest.approx(column(taught, "train_mean_nll")[30:], rel=1e-3)


def test_rl_loop_from_what_sl_loop_has_taught(recipes: Cookbook, taught: Path, tmp_path: Path) -> None:
    final = rows(taught, "checkpoints.jsonl")[-1]
    write_rows(tmp_path / "checkpoints.jsonl", [{**final, "batch": 0}])
    recipes.run(
        RECIPES / "rl_loop.py",
        model_name=NAME,
        log_path=tmp_path,
        batch_size=8,
        group_size=8,
        learning_rate=1e-3,
        lora_rank=16,
        max_tokens=20,
        loss_fn="importance_sampling",
        save_every=2,
        max_steps=3,
    )
    reward = column(tmp_path, "reward/total")
    assert len(reward) == 3
    assert max(reward) > 0
