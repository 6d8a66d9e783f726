"""``loops quickstart``: the first minute. A language model on this machine learns something while you watch."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import attrs
import click
import orjson
from rich.console import Console

from loops_sdk import AdamParams, Datum, Renderer, SamplingClient, SamplingParams, ServiceClient, TrainingClient
from loops_sdk.cli.deployment import deployment_options, started

_DATA = "pebble_island"
_BAR = 40
_SHOWN = (7, 34, 61)

Conversation = list[dict[str, str]]


@attrs.frozen
class Lesson:
    """What is learned, and how."""

    steps: int
    batch_size: int
    learning_rate: float
    rank: int
    seed: int


@click.command(short_help="The first minute: a model learns while you watch.")
@deployment_options
@click.option("--steps", default=50, show_default=True, type=click.IntRange(min=1), help="Optimizer steps.")
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(min=1), help="Examples per step.")
@click.option(
    "--learning-rate", default=5e-3, show_default=True, type=click.FloatRange(min=0), help="Adam's step size."
)
@click.option("--rank", default=16, show_default=True, type=click.IntRange(min=1), help="Rank of the LoRA adapter.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the adapter and the batches."
)
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON that holds the figures.")
def quickstart(
    base_model: str,
    data_dir: Path | None,
    max_seq_len: int | None,
    as_json: bool,
    **lesson: Any,
) -> None:
    """Fine-tune a language model on this machine and see what it has learned.

    Starts a deployment, trains a LoRA adapter on a few hundred questions and answers that ship with this package, and
    shows the loss per step, and the loss and some answers on questions it has not seen, before and after.
    """
    figures = asyncio.run(_tour(base_model, data_dir, max_seq_len, Lesson(**lesson)))
    if as_json:
        click.echo(orjson.dumps(figures))


async def _tour(base_model: str, data_dir: Path | None, max_seq_len: int | None, lesson: Lesson) -> dict[str, Any]:
    console = Console(highlight=False, soft_wrap=True)
    start = time.monotonic()
    async with (
        started(console, base_model, data_dir, max_seq_len) as stack,
        ServiceClient(base_url=stack.base_url, api_key=stack.api_key) as service,
    ):
        training = await service.create_lora_training_client_async(base_model, rank=lesson.rank, seed=lesson.seed)
        figures = await _Tour(console, training, lesson).take()
    figures["seconds"] = round(time.monotonic() - start, 1)
    console.print(f"\nall of it took {figures['seconds']} s; the deployment is stopped and nothing is left running")
    console.print("next: `loops docs tutorial`, your own data in ten minutes; `loops examples list`, whole programs")
    return figures


class _Tour:
    def __init__(self, console: Console, training: TrainingClient, lesson: Lesson) -> None:
        self._console = console
        self._training = training
        self._lesson = lesson

    async def take(self) -> dict[str, Any]:
        """Look, train, look again."""
        self._renderer = Renderer(await self._training.get_tokenizer_async())
        train, held_out = _read("train"), _read("held_out")
        self._console.print(f"  {len(train)} questions to learn from, {len(held_out)} others held out\n")
        before = await self._look("before", held_out)
        losses = await self._train([self._renderer.datum(messages) for messages in train])
        after = await self._look("after", held_out)
        fell = 1 - after["loss"] / before["loss"]
        self._console.print(
            f"\n[bold]held-out loss fell by {fell:.0%}[/], from {before['loss']:.3f} to {after['loss']:.3f}"
        )
        looks = {
            f"held_out_{what}_{when}": look[what]
            for when, look in (("before", before), ("after", after))
            for what in look
        }
        return {**looks, "train_losses": losses}

    async def _look(self, when: str, held_out: list[Conversation]) -> dict[str, Any]:
        exam = [self._renderer.datum(messages) for messages in held_out]
        loss = (await (await self._training.forward_async(exam))).loss / _targets(exam)
        sampler = await (await self._training.save_weights_and_get_sampling_client_async(when))
        answers = await asyncio.gather(*[self._answer(sampler, messages[:-1]) for messages in held_out])
        right = sum(answer == messages[-1]["content"] for answer, messages in zip(answers, held_out, strict=True))
        self._console.print(
            f"[bold]{when}[/]: held-out loss {loss:.3f} nats per token, "
            f"{right} of {len(held_out)} questions answered word for word as the help desk would"
        )
        for index in _SHOWN:
            self._console.print(f"  Q: {held_out[index][-2]['content']}\n  A: {answers[index]}", markup=False)
        return {"loss": loss, "right": right, "answers": [answers[index] for index in _SHOWN]}

    async def _answer(self, sampler: SamplingClient, question: Conversation) -> str:
        prompt = self._renderer.prompt(question)
        result = await sampler.sample_async(prompt, sampling_params=SamplingParams(temperature=0.0, max_tokens=60))
        return self._renderer.message(result.sequences[0].tokens)["content"]

    async def _train(self, data: list[Datum]) -> list[float]:
        """Each step is submitted while the one before it runs: the trainer never waits for us."""
        self._console.print(f"\ntraining, {self._lesson.steps} steps of {self._lesson.batch_size}")
        adam = AdamParams(learning_rate=self._lesson.learning_rate)
        losses: list[float] = []
        waiting = None
        for batch in _batches(data, self._lesson):
            passed = await self._training.forward_backward_async(batch)
            stepped = await self._training.optim_step_async(adam)
            if waiting is not None:
                losses.append(await self._report(len(losses) + 1, *waiting))
            waiting = passed, stepped, batch
        assert waiting is not None  # there is at least one step
        losses.append(await self._report(len(losses) + 1, *waiting))
        self._console.print()
        return losses

    async def _report(self, number: int, passed: Any, stepped: Any, batch: list[Datum]) -> float:
        loss: float = (await passed).loss / _targets(batch)
        await stepped
        bar = "█" * min(_BAR, round(loss * _BAR / 5))
        self._console.print(f"  step {number:>3}/{self._lesson.steps}  loss {loss:6.3f}  {bar}", markup=False)
        return loss


def _read(part: str) -> list[Conversation]:
    text = files("loops_sdk").joinpath("examples", "data", f"{_DATA}.{part}.jsonl").read_text(encoding="utf-8")
    return [orjson.loads(line)["messages"] for line in text.splitlines()]


def _targets(data: list[Datum]) -> int:
    """Number of tokens that are learned."""
    return sum(int((datum.loss_fn_inputs["target_tokens"].data != -100).sum()) for datum in data)


def _batches(data: list[Datum], lesson: Lesson) -> Iterator[list[Datum]]:
    """As many batches as there are steps, from a fresh shuffle each time the data is used up."""
    draw = random.Random(lesson.seed)
    pool: list[Datum] = []
    for _ in range(lesson.steps):
        if len(pool) < lesson.batch_size:
            pool = draw.sample(data, len(data))
        yield pool[: lesson.batch_size]
        pool = pool[lesson.batch_size :]
