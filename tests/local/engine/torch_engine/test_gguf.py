"""A GGUF file is converted once, to the same model, and loads from the converted folder from then on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from loops_sdk.local.engine.torch_engine import load_training_engine, sources
from loops_sdk.types import Datum

HEADS, SIZE, VOCAB = 4, 32, 300


def permuted(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The order in which GGUF keeps the rotary dimensions of queries and keys."""
    return weight.reshape(HEADS, 2, SIZE // HEADS // 2, SIZE).swapaxes(1, 2).reshape(weight.shape)


def write(path: Path, model: LlamaForCausalLM, vocabulary: list[str], merges: list[str]) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(SIZE)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(SIZE // HEADS)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary)
    writer.add_token_types([gguf.TokenType.NORMAL] * VOCAB)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
    for name, weight in weights.items():
        target = names.get_name(name, try_suffixes=(".weight",))
        assert target is not None
        writer.add_tensor(target, permuted(weight) if "q_proj" in name or "k_proj" in name else weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def gguf_file(model_folder: Callable[[str], str], tmp_path: Path) -> tuple[Path, LlamaForCausalLM]:
    tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    vocabulary += [f"<unused{index}>" for index in range(VOCAB - len(vocabulary))]
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=SIZE, intermediate_size=64, num_hidden_layers=1, num_attention_heads=HEADS,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = LlamaForCausalLM(config).eval()
    merges = [" ".join(pair) for pair in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]
    write(tmp_path / "small.gguf", model, vocabulary, merges)
    return tmp_path / "small.gguf", model


def test_converted_once_to_the_same_model(
    gguf_file: tuple[Path, LlamaForCausalLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = gguf_file
    engine = load_training_engine(str(path), cache_dir=tmp_path / "cache")
    tokens = list(range(5, 25))
    with torch.no_grad():
        plain = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
    got = engine.forward([Datum(tokens)], "cross_entropy", None).loss_fn_outputs[0]["logprobs"].tolist()
    wanted = [plain[i, token].item() for i, token in enumerate(tokens[1:])]
    assert got[:-1] == pytest.approx(wanted, abs=0.2)  # the folder keeps bfloat16
    folder = Path(engine.tokenizer_path)
    assert folder.parent == tmp_path / "cache" / "gguf"
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]
    assert len(AutoTokenizer.from_pretrained(folder)("the")["input_ids"]) == 1
    AutoModelForCausalLM.from_pretrained(folder)
    monkeypatch.setattr(sources, "_convert", lambda *_: pytest.fail("converted again"))
    assert load_training_engine(str(path), cache_dir=tmp_path / "cache").tokenizer_path == str(folder)


def test_a_changed_file_is_converted_anew(
    gguf_file: tuple[Path, LlamaForCausalLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = gguf_file
    asked: list[Path] = []
    monkeypatch.setattr(sources, "_convert", lambda _, target: asked.append(target))
    sources.resolve(str(path), tmp_path)
    os.utime(path, (1, 1))
    sources.resolve(str(path), tmp_path)
    assert len(set(asked)) == 2


def test_the_slower_of_two_conversions_leaves_the_first_result(tmp_path: Path) -> None:
    for name in ("scratch", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    sources._publish(tmp_path / "scratch", tmp_path / "target")
    assert (tmp_path / "target" / "config.json").read_text() == "target"
