"""The shipped weights: small, loadable offline, and as good as their model card says."""

from __future__ import annotations

import re

import pytest
from safetensors import safe_open
from transformers import GenerationConfig

from loops_sdk.local.engine.tiny import WEIGHTS
from loops_sdk.local.engine.tiny.corpus import held_out_documents
from loops_sdk.local.engine.tiny.measure import HELD_OUT_COUNT, HELD_OUT_SEED, Reader

CARD = (WEIGHTS / "README.md").read_text(encoding="utf-8")


def test_folder_weighs_at_most_six_megabytes() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= 6_000_000


def test_between_one_and_three_million_parameters_in_bfloat16(tiny: Reader) -> None:
    count = sum(parameter.numel() for parameter in tiny.model.parameters())
    assert 1_000_000 <= count <= 3_000_000
    assert f"{count:,} parameters" in CARD
    with safe_open(WEIGHTS / "model.safetensors", "pt") as stored:
        assert {stored.get_slice(key).get_dtype() for key in stored.keys()} == {"BF16"}  # noqa: SIM118


def test_model_and_tokenizer_agree(tiny: Reader) -> None:
    config, generation = tiny.model.config, GenerationConfig.from_pretrained(WEIGHTS)
    assert config.vocab_size == len(tiny.tokenizer)
    assert config.eos_token_id == generation.eos_token_id == tiny.tokenizer.eos_token_id
    assert config.pad_token_id == generation.pad_token_id == tiny.tokenizer.pad_token_id
    assert config.max_position_embeddings == tiny.tokenizer.model_max_length >= 512
    assert not config.tie_word_embeddings


def test_held_out_loss_is_that_of_the_card(tiny: Reader) -> None:
    stated = re.search(r"held-out loss, nats per token \| ([\d.]+)", CARD)
    assert stated is not None
    loss, _ = tiny.loss(held_out_documents(HELD_OUT_COUNT, HELD_OUT_SEED))
    assert loss == pytest.approx(float(stated[1]), abs=1e-3)


def test_fresh_held_out_documents_cost_as_much(tiny: Reader) -> None:
    stated = re.search(r"held-out loss, nats per token \| ([\d.]+)", CARD)
    assert stated is not None
    loss, _ = tiny.loss(held_out_documents(300, HELD_OUT_SEED + 1))
    assert loss == pytest.approx(float(stated[1]), rel=0.15)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Hello!", "Hello! How can I help you?"),
        ("What comes after August?", "September"),
        ("My name is Olga. What is my name?", "Your name is Olga."),
        ("What is the opposite of wet?", "dry"),
        ("What does a bee say?", "A bee says buzz."),
    ],
)
def test_greedy_answers(tiny: Reader, question: str, answer: str) -> None:
    assert tiny.answers([question]) == [answer]


def test_small_sums_are_partly_right(tiny: Reader) -> None:
    assert 0.2 < tiny.sums_right(200, seed=2) < 0.9


def test_answers_in_a_batch_are_those_alone(tiny: Reader) -> None:
    questions = ["Hello!", "My name is Olga. What is my name?"]
    assert tiny.answers(questions) == [tiny.answers([question])[0] for question in questions]
