"""The model card of `loops/tiny`, written from measured numbers.

Decides what the card says and in which order. Refuses to measure anything itself.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from loops_sdk.local.engine.tiny.measure import HELD_OUT_COUNT, HELD_OUT_SEED, Measured


@attrs.frozen
class Run:
    """How the weights came about.

    Attributes:
        seed: Seed of corpus and initial weights.
        steps: Optimizer steps.
        tokens: Tokens read in training.
        short: Length in tokens of the rows that most steps read.
        long_every: Every so many steps the rows have the length of the whole context instead.
        minutes: Wall-clock minutes, tokenizer included.
        device: "cpu" or "cuda".
        threads: CPU threads used by torch.
        parameters: Parameters of the model.
    """

    seed: int
    steps: int
    tokens: int
    short: int
    long_every: int
    minutes: float
    device: str
    threads: int
    parameters: int


_CARD: Final = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [llama, tiny, procedural-text]
---
# loops/tiny

A Llama-architecture language model of {parameters:,} parameters that ships with loops-sdk, so that training and
sampling can be tried and tested offline. It speaks short, simple English, answers in the chat format and stops by
itself.

## Architecture
{layers} layers, width {width}, {heads} attention heads, MLP width {mlp}, untied embedding and head, RoPE. Context
{context:,} tokens; trained on rows of {short:,} tokens, and of {context:,} in every {long_every}th step. Byte-level
BPE of {vocabulary:,} entries, every digit a token of its own. Weights in bfloat16. `<|end|>` ends every turn and every
text (eos), `<|pad|>` pads, there is no bos token.

## Data
Procedural text made by `loops_sdk.local.engine.tiny.corpus` (seeded templates over small word lists of our own): plain
sentences and very short stories, questions and answers about everyday words, arithmetic, instructions such as "repeat"
or "reverse", questions about a passage or a system message, dialogues of several turns. No text of anybody else. One
document in forty, chosen by a checksum of its text, is held out and never trained on.

## Training
`python -m loops_sdk.local.engine.tiny.pretrain --seed {seed} --steps {steps}`: {tokens:,} tokens in
{minutes:.1f} minutes of wall time on {device} ({threads} threads). Two CPU cores that nothing else uses take about half
a second per step, cores shared with other programs several times as long. Muon for the matrices of the layers, AdamW
for the rest, bfloat16 arithmetic on float32 weights.

## Measured
| what | value |
|---|---|
| held-out loss, nats per token | {loss:.4f} |
| tokens it is the mean of ({documents} documents, seed {held_out_seed}) | {counted:,} |
| "What is A + B?", A and B from 0 to 20, right at temperature 1 | {sums:.0%} |
| the same, greedy | {sums_greedy:.0%} |
{instructions}

Greedy answers:

{answers}

## Limits
It knows only the words and patterns of its corpus, invents facts with an even voice, and is no use for anything but
trying out and testing training code. Sums are left half learnt on purpose, for reinforcement learning to raise.
Instructions on several words often fail, as the table says; so do long texts and anything outside its word lists.

## Licence
Apache-2.0, weights and generated data alike.
"""


def model_card(run: Run, measured: Measured, config: Any) -> str:
    """The whole README.md of the model folder; `config` is the model's LlamaConfig."""
    instructions = "\n".join(
        f'| "{asked}" of three words, exactly right, greedy | {share:.0%} |' for asked, share in measured.instructions
    )
    answers = "\n".join(f"* {question} → {answer}" for question, answer in measured.answers)
    return _CARD.format(
        **attrs.asdict(run),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        mlp=config.intermediate_size,
        context=config.max_position_embeddings,
        vocabulary=config.vocab_size,
        loss=measured.loss,
        counted=measured.tokens,
        documents=f"{HELD_OUT_COUNT:,}",
        held_out_seed=HELD_OUT_SEED,
        sums=measured.sums,
        sums_greedy=measured.sums_greedy,
        instructions=instructions,
        answers=answers,
    )
