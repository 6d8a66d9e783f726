"""The engine without torch: real checks, real counting, the uniform model's losses."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import AdapterConfig
from loops_sdk.local.engine.dry import DryTrainingEngine
from loops_sdk.types import AdamParams, Datum

DATA = [Datum([1, 2, 3]), Datum([4, 5])]


@pytest.fixture
def engine() -> DryTrainingEngine:
    return DryTrainingEngine(vocab_size=10, max_seq_len=16)


def test_uniform_losses(engine: DryTrainingEngine) -> None:
    output = engine.forward(DATA, "cross_entropy", None)
    assert output.loss == pytest.approx(3 * math.log(10))
    assert output.metrics == {"loss:sum": output.loss, "loss_tokens:sum": 3.0}
    assert output.loss_fn_outputs[1]["logprobs"].tolist() == pytest.approx([-math.log(10), 0.0])


def test_rl_metrics_and_overflow_where_nothing_counts(engine: DryTrainingEngine) -> None:
    inputs = {"target_tokens": [2, 3], "logprobs": [-math.log(10), -1000.0], "advantages": [1.0, 0.0]}
    output = engine.forward([Datum([1, 2], inputs)], "importance_sampling", None)
    assert output.loss == pytest.approx(-1.0)


def test_steps_are_counted_and_an_empty_window_is_an_error(engine: DryTrainingEngine) -> None:
    with pytest.raises(RuntimeError, match="no gradient has been accumulated"):
        engine.optim_step(AdamParams())
    engine.forward_backward(DATA, "cross_entropy", None)
    assert engine.optim_step(AdamParams(learning_rate=0.5)).metrics["lr"] == 0.5
    assert engine.step == 1
    with pytest.raises(RuntimeError):
        engine.optim_step(AdamParams())


def test_bad_data_are_refused_as_by_a_real_engine(engine: DryTrainingEngine) -> None:
    with pytest.raises(InvalidInputError, match="outside the vocabulary of 10"):
        engine.forward_backward([Datum([10])], "cross_entropy", None)


def test_state(engine: DryTrainingEngine, tmp_path: Path) -> None:
    engine.forward_backward(DATA, "cross_entropy", None)
    engine.optim_step(AdamParams())
    engine.save_state(tmp_path)
    other = DryTrainingEngine(vocab_size=10, max_seq_len=16)
    other.load_state(tmp_path, optimizer=True)
    assert other.step == 1
    other.load_state(tmp_path, optimizer=False)
    assert other.step == 0
    engine.init_adapter(AdapterConfig(lora_alpha=8))
    engine.save_state(tmp_path)
    other.load_state(tmp_path, optimizer=True)
    assert (other.step, other.adapter_config["lora_alpha"]) == (0, 8)
    other.init_adapter(AdapterConfig(lora_rank=4))
    with pytest.raises(RuntimeError, match="rank 32"):
        other.load_state(tmp_path, optimizer=True)
    with pytest.raises(RuntimeError, match="no state of the dry engine"):
        other.load_state(tmp_path / "nowhere", optimizer=True)
    with pytest.raises(RuntimeError, match="no weights"):
        other.save_adapter(tmp_path)


def test_neither_contract_nor_dry_engine_load_torch() -> None:
    code = "import sys, loops_sdk.local.engine, loops_sdk.local.engine.dry; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("wrong", [{"lora_rank": 0}, {"lora_alpha": 0}, {"seed": -1}])
def test_adapter_config_refuses_numbers_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        AdapterConfig(**wrong)


def test_adapter_config_needs_a_part() -> None:
    with pytest.raises(InvalidInputError, match="train_attn, train_mlp, train_unembed"):
        AdapterConfig(train_attn=False, train_mlp=False, train_unembed=False)
