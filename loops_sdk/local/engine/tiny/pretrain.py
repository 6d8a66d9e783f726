"""Pretraining of `loops/tiny`: `python -m loops_sdk.local.engine.tiny.pretrain --out DIR`.

Decides architecture, optimizer and schedule; the same seed on the same kind of device gives the same weights. Refuses
to know what the corpus says (`corpus`), how text becomes tokens (`tokenizer`) and how quality is measured (`measure`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from loops_sdk.local.engine.tiny import WEIGHTS
from loops_sdk.local.engine.tiny.card import Run, model_card
from loops_sdk.local.engine.tiny.corpus import documents
from loops_sdk.local.engine.tiny.measure import measure
from loops_sdk.local.engine.tiny.tokenizer import END, PAD, render, train_tokenizer

VOCABULARY: Final = 1_536
CONTEXT: Final = 1_024
SHORT_CONTEXT: Final = 256
LONG_EVERY: Final = 7
TOKENS_PER_STEP: Final = 4_096
TOKENIZER_DOCUMENTS: Final = 30_000
PEAK_RATE: Final = 4e-3
WARMUP_STEPS: Final = 40


def architecture(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """A Llama of 2.4 M parameters: four layers of width 192, embedding and head not tied."""
    ids = tokenizer.get_vocab()
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=ids[END],
        pad_token_id=ids[PAD],
    )


def rows(tokenizer: PreTrainedTokenizerFast, seed: int, length: int) -> Iterator[list[int]]:
    """Rows of `length` tokens: whole documents one after the other, the last one cut off.

    Every row begins where a document begins, as prompts do. Documents in a row see each other, which teaches the model
    positions far beyond the length of one document.
    """
    stream = documents(seed)
    row: list[int] = []
    while True:
        texts = [render(document) for document in islice(stream, 256)]
        for ids in tokenizer(texts)["input_ids"]:
            row.extend(ids)
            if len(row) >= length:
                yield row[:length]
                row = []


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, steps: int) -> Iterator[torch.Tensor]:
    """One int64 tensor [rows, length] per step: short rows, and every seventh time rows of the whole context."""
    sources = {length: rows(tokenizer, 2 * seed + part, length) for part, length in enumerate((SHORT_CONTEXT, CONTEXT))}
    for step in range(1, steps + 1):
        length = SHORT_CONTEXT if step % LONG_EVERY else CONTEXT
        yield torch.tensor(list(islice(sources[length], TOKENS_PER_STEP // length)))


def rate(step: int, steps: int) -> float:
    """The learning rate as a share of its peak: linear warm-up, then linear decay to a hundredth."""
    return min((step + 1) / WARMUP_STEPS, 1.0) * max(1.0 - step / steps, 0.01)


def optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the layers, AdamW for embedding, head and norms."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in named if p.ndim != 2 or ".layers." not in name]
    return [
        torch.optim.Muon(matrices, lr=PEAK_RATE, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(model: Any, source: Iterator[torch.Tensor], steps: int, device: torch.device) -> None:
    """Train the float32 model in place with bfloat16 arithmetic, printing the loss."""
    chosen = optimizers(model)
    started = time.monotonic()
    for step, ids in enumerate(source):
        loss = _train_step(model, ids.to(device), chosen, rate(step, steps))
        if step % 20 == 0 or step == steps - 1:
            click.echo(f"step {step:5d}/{steps}  loss {loss:.4f}  {time.monotonic() - started:7.1f} s")


def _train_step(model: Any, ids: torch.Tensor, chosen: list[torch.optim.Optimizer], share: float) -> float:
    with torch.autocast(ids.device.type, torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in chosen:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * share
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def save(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model (bfloat16 safetensors), generation settings and tokenizer as a transformers model folder."""
    model.generation_config.update(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.to(device="cpu", dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # written for the owner only, but it ships to everybody


def pretrain(folder: Path, *, seed: int, steps: int) -> None:
    """Make the whole model folder, card included.

    Args:
        folder: Where to write; made if missing.
        seed: Seed of corpus and initial weights.
        steps: Optimizer steps of 4,096 tokens.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.use_deterministic_algorithms(device.type == "cpu")
    torch.manual_seed(seed)
    started = time.monotonic()
    texts = [render(document) for document in islice(documents(2 * seed), TOKENIZER_DOCUMENTS)]
    tokenizer = train_tokenizer(texts, VOCABULARY, CONTEXT)
    model: Any = LlamaForCausalLM(architecture(tokenizer))
    model.to(device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    click.echo(f"{parameters:,} parameters, {len(tokenizer):,} tokens in the vocabulary, on {device}")
    train(model, batches(tokenizer, seed, steps), steps, device)
    minutes = (time.monotonic() - started) / 60
    save(model, tokenizer, folder)
    run = Run(
        seed=seed,
        steps=steps,
        tokens=steps * TOKENS_PER_STEP,
        short=SHORT_CONTEXT,
        long_every=LONG_EVERY,
        minutes=minutes,
        device=device.type,
        threads=torch.get_num_threads(),
        parameters=parameters,
    )
    card = model_card(run, measure(folder), model.config)
    (folder / "README.md").write_text(card, encoding="utf-8")
    click.echo(card)


def main() -> None:
    """Read the command line and pretrain."""
    parser = argparse.ArgumentParser(description="Pretrain loops/tiny on its procedural corpus.")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="model folder to write (default: the shipped one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of corpus and weights (default 0)")
    parser.add_argument("--steps", type=int, default=1_000, help="optimizer steps of 4,096 tokens (default 1000)")
    given = parser.parse_args()
    if given.steps < 1:
        parser.error(f"--steps must be at least 1, not {given.steps}")
    pretrain(given.out, seed=given.seed, steps=given.steps)


if __name__ == "__main__":
    main()
