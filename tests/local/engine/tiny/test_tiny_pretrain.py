"""Pretraining: the same seed gives the same weights, the loss falls, the folder it writes is complete."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from loops_sdk.local.engine.tiny.card import Run, model_card
from loops_sdk.local.engine.tiny.corpus import documents
from loops_sdk.local.engine.tiny.measure import Measured, Reader
from loops_sdk.local.engine.tiny.pretrain import (
    CONTEXT,
    SHORT_CONTEXT,
    architecture,
    batches,
    main,
    rate,
    rows,
    save,
    train,
)
from loops_sdk.local.engine.tiny.tokenizer import render


def small_model(reader: Reader, seed: int) -> Any:
    config = architecture(reader.tokenizer)
    config.update({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2})
    config.update({"num_key_value_heads": 2, "head_dim": 16})
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def trained(reader: Reader, steps: int) -> Any:
    model = small_model(reader, 0)
    train(model, (ids[:2] for ids in batches(reader.tokenizer, 0, steps)), steps, torch.device("cpu"))
    return model


def test_rows_begin_where_documents_begin(tiny: Reader) -> None:
    texts = [render(document) for document in islice(documents(1), 2_000)]
    starts = {tuple(tiny.tokenizer(text)["input_ids"][:4]) for text in texts}
    for row in islice(rows(tiny.tokenizer, 1, 128), 20):
        assert len(row) == 128
        assert tuple(row[:4]) in starts


def test_every_seventh_batch_has_the_length_of_the_whole_context(tiny: Reader) -> None:
    shapes = [tuple(ids.shape) for ids in batches(tiny.tokenizer, 0, 8)]
    assert shapes == [(16, SHORT_CONTEXT)] * 6 + [(4, CONTEXT), (16, SHORT_CONTEXT)]


def test_rate_warms_up_and_decays() -> None:
    shares = [rate(step, 500) for step in range(500)]
    assert shares[0] < shares[20] < shares[39]
    assert shares[40:] == sorted(shares[40:], reverse=True)
    assert 0 < shares[-1] <= 0.01


def test_same_seed_same_weights_and_falling_loss(tiny: Reader, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = trained(tiny, 25), trained(tiny, 25)
    for left, right in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(left, right)
    losses = [float(line.split()[3]) for line in capsys.readouterr().out.splitlines()]
    assert losses[2] < losses[0] - 0.1


def test_saved_folder_loads_and_answers(tiny: Reader, tmp_path: Path) -> None:
    save(small_model(tiny, 0), tiny.tokenizer, tmp_path)
    reader = Reader(tmp_path)
    assert len(reader.answers(["Hello!"], max_new_tokens=3)) == 1
    assert reader.model.config.max_position_embeddings == CONTEXT
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o044


def test_card_states_what_was_measured(tiny: Reader) -> None:
    run = Run(3, 7, 28_672, 256, 7, 1.26, "cpu", 2, 123_456)
    card = model_card(
        run, Measured(1.23456, 1000, 0.5, 0.75, (("Say ...", 0.25),), (("Hello!", "Hi."),)), tiny.model.config
    )
    for wanted in (
        "123,456 parameters",
        "| 1.2346 |",
        "| 50% |",
        "| 75% |",
        "* Hello! → Hi.",
        "1.3 minutes",
        "--seed 3",
    ):
        assert wanted in card


def test_steps_must_be_positive(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["pretrain", "--steps", "0"])
    with pytest.raises(SystemExit):
        main()
    assert "--steps must be at least 1, not 0" in capsys.readouterr().err
