"""The example `distillation` in small: the student approaches the teacher, which may be a larger model elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from loops_sdk.local.engine.torch_engine import sources

from ..served import Serving, serving
from .conftest import Example, mean, numbers

TOLD = re.compile(r"fell from (\S+) to (\S+) nats per token; right answers rose from (\d+)% to (\d+)%")
HELD_OUT = re.compile(r"held out: kl (\S+) -> (\S+)  right (\S+) -> (\S+)")
FEW = ("--steps", 2, "--questions", 8, "--group-size", 1)


def test_the_student_approaches_the_teacher_and_its_answers(example: Example) -> None:
    said = example("distillation", "--steps", 16, timeout=400)
    steps = said[said.index("step   1") :]
    kl, right = numbers(steps, "kl")[:16], numbers(steps, "right")[:16]
    assert mean(kl[-3:]) < 0.65 * mean(kl[:3])
    assert mean(right[-3:]) > mean(right[:3]) + 0.08
    told, held_out = TOLD.search(said), HELD_OUT.search(said)
    assert told
    assert held_out
    assert [float(one) for one in told.groups()] == pytest.approx(
        [mean(kl[:3]), mean(kl[-3:]), 100 * mean(right[:3]), 100 * mean(right[-3:])], abs=1.5
    )
    before, after = float(held_out[1]), float(held_out[2])
    assert after < 0.85 * before  # sums that the student was never asked


@pytest.fixture
def larger(tmp_path: Path) -> Iterator[tuple[Serving, Path]]:
    """A deployment of its own for a model with twice the layers of the student's, and half as many parameters more.

    The layers that it has more add nothing until they are trained, so it begins as able as the one it is made from.
    """
    source, folder = sources.resolve("loops/tiny", tmp_path), tmp_path / "larger"
    small: Any = transformers.AutoModelForCausalLM.from_pretrained(source)
    config = small.config
    few, config.num_hidden_layers = config.num_hidden_layers, 2 * config.num_hidden_layers
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    model.load_state_dict(small.state_dict(), strict=False)
    with torch.no_grad():
        for layer in model.model.layers[few:]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    assert model.num_parameters() > 1.5 * small.num_parameters()
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    with serving(tmp_path / "data", "--base-model", str(folder)) as server:
        yield server, folder


def test_a_larger_teacher_at_a_deployment_of_its_own(
    example: Example, larger: tuple[Serving, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, folder = larger
    monkeypatch.setenv("TEACHER_API_KEY", server.api_key)
    there = ("--teacher-url", server.base_url, "--teacher", folder)
    said = example("distillation", *there, "--teacher-steps", 10, "--steps", 12, timeout=300)
    assert "teacher, step 10" in said
    steps = said[said.index("step   1") :]
    kl, right = numbers(steps, "kl")[:12], numbers(steps, "right")[:12]
    assert numbers(said, "own answers: right")[0] > mean(right[:3]) + 0.1
    assert mean(kl[-3:]) < 0.8 * mean(kl[:3])


def test_a_teacher_may_be_a_checkpoint_or_a_model_as_it_is(example: Example) -> None:
    """The base model as teacher is what the student begins with: they agree, to the rounding of both."""
    once = example("distillation", *FEW, "--teacher-steps", 3)
    example.serving.end_runs()  # a program needs four of the deployment's eight processes
    (path,) = re.findall(r"--teacher (\S+)", once)
    again = example("distillation", *FEW, "--teacher", path)
    assert "teacher, step" not in again
    assert numbers(again, "kl")[0] > 0.01
    example.serving.end_runs()
    same = example("distillation", *FEW, "--teacher-steps", 0)
    assert abs(numbers(same, "kl")[0]) < 0.005
