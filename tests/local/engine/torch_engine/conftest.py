"""Small random models on disk, made once per session, and engines over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from loops_sdk.local.engine import AdapterConfig
from loops_sdk.local.engine.torch_engine import load_generation_engine, load_training_engine
from loops_sdk.local.engine.torch_engine.generation import TorchGenerationEngine
from loops_sdk.local.engine.torch_engine.training import TorchTrainingEngine

torch.set_num_threads(1)

VOCAB = 300
CONTEXT = 96
_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "eos_token_id": 0,
    "bos_token_id": None,
    "pad_token_id": None,
}


def _configs() -> dict[str, PreTrainedConfig]:
    return {
        "llama": LlamaConfig(**_SIZES),
        "tied": LlamaConfig(**_SIZES, tie_word_embeddings=True),
        "qwen3": Qwen3Config(**_SIZES, head_dim=8, tie_word_embeddings=True),
        "opt": OPTConfig(
            **(_SIZES | {"pad_token_id": 1}),
            ffn_dim=64,
            word_embed_proj_dim=32,
            init_std=0.3,
            do_layer_norm_before=True,
        ),
        "gpt2": GPT2Config(
            vocab_size=VOCAB,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=CONTEXT,
            initializer_range=0.3,
            eos_token_id=0,
            bos_token_id=0,
        ),
    }


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog ate the hat of the rat"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Folder of a random model by name: llama, tied (llama with tied embeddings), qwen3, opt, gpt2."""
    made: dict[str, str] = {}

    def folder(name: str) -> str:
        if name not in made:
            with torch.random.fork_rng():
                torch.manual_seed(7)
                model = AutoModelForCausalLM.from_config(_configs()[name])
            path = tmp_path_factory.mktemp(name)
            model.save_pretrained(path)
            _tokenizer().save_pretrained(path)
            made[name] = str(path)
        return made[name]

    return folder


@pytest.fixture
def training_engine(model_folder: Callable[[str], str], tmp_path: Path) -> Callable[..., TorchTrainingEngine]:
    """A fresh training engine over a random model."""

    def engine(name: str = "llama") -> TorchTrainingEngine:
        made = load_training_engine(model_folder(name), cache_dir=tmp_path)
        made.init_adapter(AdapterConfig(seed=1))
        return made

    return engine


@pytest.fixture
def generation_engine(model_folder: Callable[[str], str], tmp_path: Path) -> Callable[..., TorchGenerationEngine]:
    """A fresh generation engine over a random model."""

    def engine(name: str = "llama", max_rows: int = 64) -> TorchGenerationEngine:
        return load_generation_engine(model_folder(name), cache_dir=tmp_path, max_rows=max_rows)

    return engine
