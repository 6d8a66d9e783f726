"""Asynchronous GRPO: workers sample while the trainer trains, on answers that are at most a few steps old.

    loops examples run grpo_async    # on this machine, in about a minute; --service asks the service

A group of answers carries the version (optimizer steps done) of the policy that gave them. A group that is more than
`--max-staleness` steps behind by the time it would be trained on is dropped, and its question asked again; `ppo` weighs
the others by how much likelier the trainer finds each token than the sampler did, and clips where that is far from 1.
Look at `staleness`, that of a step's oldest group, which stays within the bound, and at `dropped`, the price: try
`--max-staleness 0`. Ctrl-C (or SIGTERM) saves weights and optimizer, and says how to go on; a deployment on this
machine keeps them if it has a folder: `loops examples run --data-dir runs grpo_async`.
"""

import argparse
import asyncio
import os
import random
import signal
from collections import deque
from dataclasses import dataclass, field

import anyio

import loops_sdk as loops

Question = tuple[int, int]


@dataclass
class Group:
    """Answers to one question, their rewards, and the version of the policy that gave them."""

    question: Question
    rollouts: list[loops.Rollout]
    rewards: list[float]
    version: int


@dataclass
class Learner:
    options: argparse.Namespace
    training: loops.TrainingClient
    renderer: loops.Renderer
    sampler: loops.SamplingClient  # of the newest weights that are published
    version: int  # optimizer steps done
    finished: asyncio.Queue[Group] = field(default_factory=lambda: asyncio.Queue(maxsize=1))
    again: deque[Question] = field(default_factory=deque)

    async def work(self, sheet: list[Question]) -> None:
        """One question after another, for good; waits while the trainer does not take what is finished."""
        while True:
            await self.finished.put(await self.ask(self.again.popleft() if self.again else random.choice(sheet)))

    async def ask(self, question: Question) -> Group:
        sampler, right = self.sampler, str(sum(question))
        prompt = self.renderer.prompt([{"role": "user", "content": f"What is {question[0]} + {question[1]}?"}])
        result = await sampler.sample_async(prompt, self.options.group_size, loops.SamplingParams(max_tokens=16))
        rollouts = [loops.Rollout(prompt) for _ in result.sequences]
        for rollout, sequence in zip(rollouts, result.sequences, strict=True):
            rollout.sampled(sequence)
        said = [self.renderer.message(sequence.tokens)["content"].strip() for sequence in result.sequences]
        # A sampler that does not name its version has at least the one that the client is pinned to.
        version = result.policy_version or sampler.min_policy_version or 0
        return Group(question, rollouts, [float(text == right) for text in said], version)

    async def batch(self) -> tuple[list[Group], int]:
        """Enough groups for the next step, none of them too old for it; and how many were."""
        groups, dropped = list[Group](), 0
        while len(groups) < self.options.groups:
            group = await self.finished.get()
            if self.version - group.version <= self.options.max_staleness:
                groups.append(group)
            else:
                self.again.append(group.question)
                dropped += 1
        return groups, dropped

    async def train(self) -> None:
        while self.version < self.options.steps:
            groups, dropped = await self.batch()
            stale = max(self.version - group.version for group in groups)
            reward = sum(sum(group.rewards) for group in groups) / (len(groups) * self.options.group_size)
            data = [datum for group in groups for datum in learnable(group)]
            if not data:
                print(f"reward {reward:.3f}: every group agrees with itself, so there is nothing to learn", flush=True)
                continue
            passing = await self.training.forward_backward_async(data, "ppo")
            stepping = await self.training.optim_step_async(loops.AdamParams(self.options.learning_rate))
            publishing = await self.training.save_weights_and_get_sampling_client_async(f"step-{self.version + 1}")
            await asyncio.gather(passing, stepping)
            self.version += 1
            self.training.log_metrics({"reward": reward, "staleness": stale}, step=self.version)
            print(f"step {self.version:>3}  reward {reward:.3f}  staleness {stale}  dropped {dropped}", flush=True)
            self.sampler = await publishing


def learnable(group: Group) -> list[loops.Datum]:
    """A datum per answer; none where all had the same reward, which teaches nothing."""
    advantages = loops.group_advantages(group.rewards)
    return [one.datum(gain) for one, gain in zip(group.rollouts, advantages, strict=True)] if any(advantages) else []


def stop_on_signal(scope: anyio.CancelScope) -> None:
    """The first Ctrl-C or SIGTERM cancels `scope`, the next one ends the program."""
    loop = asyncio.get_running_loop()

    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        loop.call_soon_threadsafe(scope.cancel)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


async def main(options: argparse.Namespace) -> None:
    sums = [(a, b) for a in range(10) for b in range(10)]
    sheet = random.Random(options.seed).sample(sums, options.questions)
    async with loops.ServiceClient() as service:
        if options.resume:
            training = await service.create_training_client_from_state_with_optimizer_async(options.resume)
        else:
            base_model = os.environ.get("LOOPS_BASE_MODEL", "Qwen/Qwen3-8B")
            training = await service.create_lora_training_client_async(base_model, rank=16, seed=options.seed)
        renderer = loops.Renderer(await training.get_tokenizer_async())
        sampler = await (await training.save_weights_and_get_sampling_client_async("start"))
        learner = Learner(options, training, renderer, sampler, await training.policy_version_async())
        async with anyio.create_task_group() as tasks:
            stop_on_signal(tasks.cancel_scope)
            for _ in range(options.workers):
                tasks.start_soon(learner.work, sheet)
            await learner.train()
            tasks.cancel_scope.cancel()
        if learner.version >= options.steps:
            print(f"done: {learner.version} steps, each on groups at most {options.max_staleness} steps behind")
        else:
            saved = await (await training.save_state_async("interrupted"))
            print(f"interrupted after step {saved.policy_version}; go on: the same with --resume {saved.path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=15, help="optimizer steps in all (15)")
    parser.add_argument("--max-staleness", type=int, default=1, help="most steps that a group may be behind (1)")
    parser.add_argument("--workers", type=int, default=16, help="groups that are sampled at a time (16)")
    parser.add_argument("--groups", type=int, default=16, help="per optimizer step (16)")
    parser.add_argument("--group-size", type=int, default=8, help="answers per question (8)")
    parser.add_argument("--questions", type=int, default=16, help="on the sheet that is practised (16)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="Adam's step size (2e-3)")
    parser.add_argument("--seed", type=int, default=0, help="of the adapter and of the sheet (0)")
    parser.add_argument("--resume", metavar="PATH", help="go on from the state that an interrupted run saved")
    asyncio.run(main(parser.parse_args()))
