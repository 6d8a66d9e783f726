"""Which base models load, from where, and which are refused by name."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertLMHeadModel,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaForSequenceClassification,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
)

from loops_sdk.errors import ConnectionFailedError, InvalidInputError
from loops_sdk.local.engine import GenerationRequest
from loops_sdk.local.engine.torch_engine import load_generation_engine, load_training_engine
from loops_sdk.local.engine.torch_engine.models import load, placement
from loops_sdk.types import AdamParams, Datum, SamplingParams

Folder = Callable[[str], str]

SIZES: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
#: Architectures that scale or bound their logits, or look back only so far.
PECULIAR: dict[str, PreTrainedConfig] = {
    "granite": GraniteConfig(**SIZES, logits_scaling=3.0),
    "cohere": CohereConfig(**SIZES, logit_scale=0.25),
    "gemma2": Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0, sliding_window=4),
    "mistral": MistralConfig(**SIZES, sliding_window=4),
}


def saved(config: PreTrainedConfig, folder: Path, tokenizer_from: str) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_from).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", list(PECULIAR))
def test_peculiar_architectures_are_computed_right(name: str, model_folder: Folder, tmp_path: Path) -> None:
    folder = saved(PECULIAR[name], tmp_path / name, model_folder("llama"))
    trainer = load_training_engine(folder, cache_dir=tmp_path)
    sampler = load_generation_engine(folder, cache_dir=tmp_path)
    asks = [
        GenerationRequest(range(5, 5 + size), SamplingParams(seed=size, max_tokens=15), prompt_logprobs=0)
        for size in (3, 9)
    ]
    tickets, results = [sampler.add(ask) for ask in asks], {}
    while sampler.pending:
        results |= dict(sampler.step())
    plain = AutoModelForCausalLM.from_pretrained(folder)
    for ask, ticket in zip(asks, tickets, strict=True):
        whole = [*ask.prompt, *results[ticket].tokens[0]]
        with torch.no_grad():
            scores = plain(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        wanted = [scores[i, token].item() for i, token in enumerate(whole[1:])]
        trained = trainer.forward([Datum(whole)], "cross_entropy", None).loss_fn_outputs[0]["logprobs"].tolist()
        assert trained[:-1] == pytest.approx(wanted, abs=1e-4)
        assert results[ticket].logprobs[0] == pytest.approx(wanted[len(ask.prompt) - 1 :], abs=1e-4)


def test_a_head_that_is_not_understood_is_refused_by_name(model_folder: Folder, tmp_path: Path) -> None:
    folder = saved(PECULIAR["granite"], tmp_path / "granite", model_folder("llama"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loops_sdk.local.engine.torch_engine.heads._DIVISORS", ())
        with pytest.raises(InvalidInputError, match="GraniteForCausalLM turns hidden states into logits in a way"):
            load(folder, cache_dir=tmp_path)


def test_models_that_are_not_causal_are_refused(tmp_path: Path) -> None:
    config = BertConfig(**{k: v for k, v in SIZES.items() if "value" not in k}, is_decoder=False)
    BertLMHeadModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(InvalidInputError, match="BertLMHeadModel is not causal"):
        load(str(tmp_path / "bert"), cache_dir=tmp_path)


def test_models_with_another_head_are_refused(model_folder: Folder, tmp_path: Path) -> None:
    config = AutoModelForCausalLM.from_pretrained(model_folder("llama")).config
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "classifier")
    with pytest.raises(InvalidInputError, match=r"has no weights for 'lm_head\.weight'"):
        load(str(tmp_path / "classifier"), cache_dir=tmp_path)
    BertForSequenceClassification(BertConfig(num_hidden_layers=1)).config.save_pretrained(tmp_path / "empty")
    with pytest.raises(InvalidInputError, match="cannot be loaded as a causal language model"):
        load(str(tmp_path / "empty"), cache_dir=tmp_path)


def test_models_without_keys_and_values_train_but_do_not_sample(model_folder: Folder, tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=120, hidden_size=16, num_hidden_layers=1, state_size=4)
    folder = saved(config, tmp_path / "mamba", model_folder("llama"))
    with pytest.raises(InvalidInputError, match="cannot be sampled from"):
        load_generation_engine(folder, cache_dir=tmp_path)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="there is no folder"):
        load(str(tmp_path / "nowhere"), cache_dir=tmp_path)
    with pytest.raises(InvalidInputError, match=r"has no config\.json"):
        load(str(tmp_path), cache_dir=tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "never heard of"}))
    with pytest.raises(InvalidInputError, match="cannot be loaded as a causal language model"):
        load(str(tmp_path), cache_dir=tmp_path)
    with pytest.raises(InvalidInputError, match="there is no file"):
        load(str(tmp_path / "a.gguf"), cache_dir=tmp_path)
    (tmp_path / "a.gguf").write_bytes(b"GGUF but no more")
    with pytest.raises(InvalidInputError, match="transformers cannot read"):
        load(str(tmp_path / "a.gguf"), cache_dir=tmp_path)
    assert not list((tmp_path / "gguf").iterdir())


def test_no_code_from_a_folder_is_run(tmp_path: Path) -> None:
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine", "AutoModelForCausalLM": "code.Mine"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text("raise SystemExit('this must not run')")
    with pytest.raises(InvalidInputError, match="cannot be loaded as a causal language model"):
        load(str(tmp_path), cache_dir=tmp_path)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, timeout: float, **__: Any) -> None:
        assert timeout <= 10
        raise httpx.ConnectError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)


@pytest.mark.usefixtures("no_hub")
def test_a_hub_id_without_a_hub_says_so_soon(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ConnectionFailedError, match=r"'no-such-org/no-such-model' is no folder, not in .*ConnectError"):
        load("no-such-org/no-such-model", cache_dir=tmp_path)
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("no_hub")
def test_a_cached_hub_model_loads_without_a_hub(
    model_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = tmp_path / "models--org--name"
    shutil.copytree(model_folder("llama"), entry / "snapshots" / "abc")
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert load("org/name", cache_dir=tmp_path).path == str(entry / "snapshots" / "abc")


def test_a_name_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"neither a folder, a \.gguf file nor a hub id"):
        load("what is/this", cache_dir=tmp_path)


def test_the_context_can_be_narrowed_but_not_widened(model_folder: Folder, tmp_path: Path) -> None:
    engine = load_training_engine(model_folder("llama"), cache_dir=tmp_path, max_seq_len=10)
    assert engine.max_seq_len == 10
    with pytest.raises(InvalidInputError, match="expected 1 to 10 tokens, got 11"):
        engine.check([Datum([1] * 11)], "cross_entropy", None)
    for wrong in (0, 97):
        with pytest.raises(InvalidInputError, match="max_seq_len: expected 1 to 96"):
            load_training_engine(model_folder("llama"), cache_dir=tmp_path, max_seq_len=wrong)


def test_the_fingerprint_follows_the_weights_not_the_place(model_folder: Folder, tmp_path: Path) -> None:
    copy = shutil.copytree(model_folder("llama"), tmp_path / "copy")
    model = AutoModelForCausalLM.from_pretrained(copy)
    model.save_pretrained(tmp_path / "other")
    prints = [load(str(folder), cache_dir=tmp_path).fingerprint for folder in (model_folder("llama"), copy)]
    assert prints[0] == prints[1]
    model.model.layers[1].self_attn.q_proj.weight.data[0, 0] += 0.5
    model.save_pretrained(tmp_path / "other")
    assert load(str(tmp_path / "other"), cache_dir=tmp_path).fingerprint != prints[0]


def test_a_sampler_needs_a_tokenizer(model_folder: Folder, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder("llama"), tmp_path / "copy"))
    for file in folder.glob("tokenizer*"):
        file.unlink()
    load_training_engine(str(folder), cache_dir=tmp_path)
    with pytest.raises(InvalidInputError, match="has no tokenizer that can be loaded"):
        load_generation_engine(str(folder), cache_dir=tmp_path)


def test_the_shipped_model_loads(tmp_path: Path) -> None:
    engine = load_training_engine("loops/tiny", cache_dir=tmp_path)
    assert engine.base_model == "loops/tiny"
    assert Path(engine.tokenizer_path, "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("there_is_one", "expected"), [(True, ("cuda", torch.bfloat16)), (False, ("cpu", torch.float32))]
)
def test_a_gpu_is_used_when_there_is_one(
    monkeypatch: pytest.MonkeyPatch, there_is_one: bool, expected: tuple[str, torch.dtype]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there_is_one)
    device, dtype = placement()
    assert (device.type, dtype) == expected


def test_on_a_bfloat16_base_the_adapter_trains_in_float32_and_the_sampler_agrees(
    monkeypatch: pytest.MonkeyPatch, model_folder: Folder, tmp_path: Path
) -> None:
    """What a GPU would do, as far as a CPU can show it."""
    monkeypatch.setattr(
        "loops_sdk.local.engine.torch_engine.models.placement", lambda: (torch.device("cpu"), torch.bfloat16)
    )
    trainer = load_training_engine(model_folder("llama"), cache_dir=tmp_path)
    tokens = list(range(10, 30))
    losses = []
    for _ in range(5):
        losses.append(trainer.forward_backward([Datum(tokens)], "cross_entropy", None).loss)
        trainer.optim_step(AdamParams(learning_rate=1e-2))
    assert losses[-1] < losses[0]
    assert trainer._base.model.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in trainer._adapter.tensors.values()} == {torch.float32}
    trainer.save_adapter(tmp_path / "adapter")

    sampler = load_generation_engine(model_folder("llama"), cache_dir=tmp_path)
    sampler.load_adapter("trained", tmp_path / "adapter")
    sampler.add(GenerationRequest(tokens, SamplingParams(max_tokens=8), 1, "trained", 0))
    done: list[Any] = []
    while sampler.pending:
        done += sampler.step()
    ((_, result),) = done
    whole = [*tokens, *result.tokens[0]]
    of_trainer = trainer.forward([Datum(whole)], "cross_entropy", None).loss_fn_outputs[0]["logprobs"].tolist()
    assert of_trainer[len(tokens) - 1 : -1] == pytest.approx(result.logprobs[0], abs=0.2)
