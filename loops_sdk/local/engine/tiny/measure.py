"""What a model folder can do: loss on held-out documents, sums answered, sample answers.

Decides how the numbers of the model card are measured, so that anybody can measure them again. Refuses to train.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import attrs
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from loops_sdk.local.engine.tiny import lexicon as words
from loops_sdk.local.engine.tiny.corpus import Document, held_out_documents
from loops_sdk.local.engine.tiny.tokenizer import render
from loops_sdk.local.engine.tiny.wording import message

HELD_OUT_SEED: Final = 20_000
HELD_OUT_COUNT: Final = 1_000
QUESTIONS: Final = (
    "Hello!",
    "What is 7 + 5?",
    "What is 12 + 13?",
    "What comes after August?",
    "My name is Olga. What is my name?",
    "What is the opposite of wet?",
    "What does a bee say?",
    "Reverse the words: stone kite apple",
    "When does the museum open?",
    "Tell me a story.",
)
INSTRUCTIONS: Final[tuple[tuple[str, Callable[[list[str]], str]], ...]] = (
    ("Repeat after me: ...", " ".join),
    ("Reverse the words: ...", lambda row: " ".join(reversed(row))),
    ("Say it in capitals: ...", lambda row: " ".join(row).upper()),
)


@attrs.frozen
class Measured:
    """The measured quality of a model folder.

    Attributes:
        loss: Nats per token over held-out documents, each read by itself; the first token of a document is given.
        tokens: How many tokens that loss is the mean of.
        sums: Share of "What is A + B?" (A, B from 0 to 20) whose answer is right when sampled at temperature 1.
        sums_greedy: The same share for greedy answers.
        instructions: Share of greedy answers that follow an instruction on three words exactly, per instruction.
        answers: Greedy answers to a few fixed questions.
    """

    loss: float
    tokens: int
    sums: float
    sums_greedy: float
    instructions: tuple[tuple[str, float], ...]
    answers: tuple[tuple[str, str], ...]


class Reader:
    """A model folder, loaded in float32, to be asked and measured."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        models: Any = AutoModelForCausalLM  # untyped
        self.model: Any = models.from_pretrained(folder, dtype=torch.float32)
        self.model.eval()

    @torch.no_grad()
    def loss(self, documents: Sequence[Document]) -> tuple[float, int]:
        """Mean loss in nats per predicted token, and how many tokens were predicted."""
        rows = [self.tokenizer(render(document))["input_ids"] for document in documents]
        total, count = 0.0, 0
        for batch in _batches(sorted(rows, key=len), 64):
            summed, predicted = self._summed_loss(batch)
            total, count = total + summed, count + predicted
        return total / count, count

    def _summed_loss(self, rows: Sequence[Sequence[int]]) -> tuple[float, int]:
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        labels = torch.tensor([[*row[1:], *[-100] * (longest - len(row) + 1)] for row in rows])
        logits = self.model(input_ids=ids).logits
        summed = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        return float(summed), int((labels != -100).sum())

    @torch.no_grad()
    def answers(self, questions: Sequence[str], *, seed: int | None = None, max_new_tokens: int = 96) -> list[str]:
        """Answers to questions: greedy, or sampled at temperature 1 if a seed is given."""
        chats = [[message("user", question)] for question in questions]
        prompts = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        torch.manual_seed(seed or 0)
        manner = {"do_sample": False} if seed is None else {"do_sample": True, "temperature": 1.0, "top_k": 0}
        out = self.model.generate(**prompts, **manner, max_new_tokens=max_new_tokens)
        replies = out[:, prompts["input_ids"].shape[1] :]
        return [str(text) for text in self.tokenizer.batch_decode(replies, skip_special_tokens=True)]

    def sums_right(self, count: int, *, seed: int | None = None) -> float:
        """Share of small sums whose answer ends with the right number."""
        rng = Random(HELD_OUT_SEED)
        pairs = [(rng.randint(0, 20), rng.randint(0, 20)) for _ in range(count)]
        replies = self.answers([f"What is {a} + {b}?" for a, b in pairs], seed=seed, max_new_tokens=12)
        right = [reply.split(" ")[-1] == str(a + b) for reply, (a, b) in zip(replies, pairs, strict=True)]
        return sum(right) / count

    def instruction_followed(self, instruction: str, wanted: Callable[[list[str]], str], count: int) -> float:
        """Share of random rows of three words for which the greedy answer is exactly the wanted one."""
        rng = Random(HELD_OUT_SEED)
        rows = [rng.sample(words.OBJECTS + words.FOODS + words.ANIMALS, 3) for _ in range(count)]
        replies = self.answers([instruction.replace("...", " ".join(row)) for row in rows], max_new_tokens=32)
        return sum(reply == wanted(row) for reply, row in zip(replies, rows, strict=True)) / count


def measure(folder: Path) -> Measured:
    """Measure a model folder on the CPU; the same folder gives the same numbers."""
    reader = Reader(folder)
    loss, tokens = reader.loss(held_out_documents(HELD_OUT_COUNT, HELD_OUT_SEED))
    answers = tuple((question, reader.answers([question])[0]) for question in QUESTIONS)
    followed = tuple((asked, reader.instruction_followed(asked, wanted, 200)) for asked, wanted in INSTRUCTIONS)
    return Measured(loss, tokens, reader.sums_right(600, seed=1), reader.sums_right(600), followed, answers)


def _batches(rows: Sequence[Sequence[int]], size: int) -> list[Sequence[Sequence[int]]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
