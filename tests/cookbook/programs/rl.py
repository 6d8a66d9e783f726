"""Reinforcement learning on sums up to 9 + 9: step by step, asynchronously, or in minibatches as they come.

rl.py model_name=FOLDER log_path=FOLDER [mode=sync|async|stream] [loss_fn=LOSS] [steps=STEPS] [elsewhere=True]
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

import chat_format
import chz
from tinker.types import LossFnType
from tinker_cookbook.renderers import Renderer, get_renderer
from tinker_cookbook.rl import train
from tinker_cookbook.rl.problem_env import ProblemEnv, ProblemGroupBuilder
from tinker_cookbook.rl.types import EnvGroupBuilder, RLDataset, RLDatasetBuilder
from tinker_cookbook.tokenizer_utils import get_tokenizer

#: Questions in a batch.
GROUPS = 16


class Sum(ProblemEnv):
    """Two numbers are to be added; the answer is the number and nothing else."""

    def __init__(self, renderer: Renderer, a: int, b: int) -> None:
        super().__init__(renderer)
        self._a, self._b = a, b

    def get_question(self) -> str:
        return f"What is {self._a} + {self._b}?"

    def get_reference_answer(self) -> str:
        return str(self._a + self._b)

    def check_answer(self, sample_str: str) -> bool:
        return sample_str == self.get_reference_answer()

    def check_format(self, sample_str: str) -> bool:
        return sample_str.isdecimal()


class Sheet(RLDataset):
    """Sixteen sums; every batch is the whole sheet, each sum answered eight times over."""

    def __init__(self, renderer: Renderer) -> None:
        draw = random.Random(0)
        self._sums = [partial(Sum, renderer, draw.randint(0, 9), draw.randint(0, 9)) for _ in range(GROUPS)]

    def __len__(self) -> int:
        return 1

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        return [ProblemGroupBuilder(env_thunk=one, num_envs=8, dataset_name="sums") for one in self._sums]


@chz.chz
class SheetBuilder(RLDatasetBuilder):
    model_name: str

    async def __call__(self) -> tuple[RLDataset, RLDataset | None]:
        return Sheet(get_renderer(chat_format.NAME, get_tokenizer(self.model_name))), None


@chz.chz
class Options:
    model_name: str
    log_path: str
    mode: Literal["sync", "async", "stream"] = "sync"
    loss_fn: LossFnType = "importance_sampling"
    steps: int = 12
    elsewhere: bool = False  # whether a process of its own samples


def execution(options: Options) -> dict[str, Any]:
    """What sets the three ways of running apart."""
    match options.mode:
        case "sync":
            return {"loss_fn": options.loss_fn}
        case "stream":
            stream = train.StreamMinibatchConfig(groups_per_batch=GROUPS, num_minibatches=2)
            return {"loss_fn": options.loss_fn, "stream_minibatch_config": stream}
        case "async":
            ahead = train.AsyncConfig(max_steps_off_policy=1, groups_per_batch=GROUPS, loss_fn=options.loss_fn)
            return {"async_config": ahead}


def main(options: Options) -> None:
    config = train.Config(
        log_path=options.log_path,
        model_name=options.model_name,
        recipe_name="sums",
        renderer_name=chat_format.NAME,
        dataset_builder=SheetBuilder(model_name=options.model_name),
        num_epochs=options.steps,
        learning_rate=2e-3,
        lora_rank=16,
        max_tokens=8,
        eval_every=0,
        save_every=4,
        **execution(options),
    )
    with ExitStack() as opened:
        fresh = multiprocessing.get_context("spawn")
        pool = opened.enter_context(ProcessPoolExecutor(1, fresh)) if options.elsewhere else None
        asyncio.run(train.main(config, rollout_executor=pool))


if __name__ == "__main__":
    chz.nested_entrypoint(main)
