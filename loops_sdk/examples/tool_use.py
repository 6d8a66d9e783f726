"""Reinforcement learning of a tool over several turns: the model learns to ask a price list before it answers.

    loops examples run tool_use

What to look at: each question is "How much is the bread?", and each group of episodes draws a new price, so nobody can
know it. The model may say "Look up bread."; the environment answers "The bread costs 7 coins.", and the model speaks
again. Only the last answer is judged: 1 for the right number, else 0. A few demonstrations show the form of a call (the
warm-up; without it no episode is ever rewarded, and there is nothing to reinforce); then `reward` rises from a quarter
to nine tenths. `called` is the share of episodes that used the tool. A `Rollout` keeps the tokens that were sampled,
with their log-probabilities, apart from those that the environment said, which are read and never learned;
`Renderer.observation` gives the latter as the chat template writes them, so that no sample is tokenized a second time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re

import attrs

from loops_sdk import (
    AdamParams,
    Renderer,
    Rollout,
    SamplingClient,
    SamplingParams,
    ServiceClient,
    TrainingClient,
    group_advantages,
)

GOODS = ("bread", "milk", "cake", "cheese", "soup", "honey", "rice", "butter")
CALL = re.compile(r"Look up (\w+)\.")
TURNS = 3  #: most turns of the model in an episode
Message = dict[str, str]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--group-size", type=int, default=8, help="episodes per question and step")
    parser.add_argument("--warm-up", type=int, default=6, help="supervised steps on demonstrations")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


@attrs.define
class Shop:
    """The environment: a question, a price list, and what an answer is worth."""

    good: str
    price: int

    def question(self) -> Message:
        return {"role": "user", "content": f"How much is the {self.good}?"}

    def listed(self) -> Message:
        """What the tool answers. Templates that know the role "tool" would take that; this model's knows three."""
        return {"role": "user", "content": f"The {self.good} costs {self.price} coins."}

    def call(self, said: str) -> Message | None:
        """The tool's answer; nothing where the model did not call it."""
        called = CALL.fullmatch(said)
        if called is None:
            return None
        return self.listed() if called[1] == self.good else {"role": "user", "content": f"There is no {called[1]}."}

    def demonstration(self) -> list[Message]:
        said = [f"Look up {self.good}.", str(self.price)]
        call, answer = [{"role": "assistant", "content": content} for content in said]
        return [self.question(), call, self.listed(), answer]


@attrs.define
class Episode:
    rollout: Rollout
    messages: list[Message]
    reward: float = 0.0


async def play(sampling: SamplingClient, renderer: Renderer, shop: Shop) -> Episode:
    """Turn by turn, until the model answers without the tool, does not finish a turn, or has had its turns."""
    messages = [shop.question()]
    rollout = Rollout(renderer.prompt(messages))
    for _ in range(TURNS):
        result = await sampling.sample_async(rollout.prompt, sampling_params=SamplingParams(max_tokens=16))
        sequence = result.sequences[0]
        rollout.sampled(sequence)
        messages.append(renderer.message(sequence.tokens))
        told = shop.call(messages[-1]["content"])
        if told is None or sequence.stop_reason != "stop":
            break
        messages.append(told)
        rollout.observed(renderer.observation(messages))
    return Episode(rollout, messages, float(messages[-1]["content"] == str(shop.price)))


async def warm_up(training: TrainingClient, renderer: Renderer, draw: random.Random, adam: AdamParams) -> None:
    data = [renderer.datum(Shop(good, draw.randint(1, 20)).demonstration()) for good in GOODS]
    passed = await training.forward_backward_async(data)
    await (await training.optim_step_async(adam))
    print(f"warm-up  loss {(await passed).loss / len(data):.2f}")


async def step(
    training: TrainingClient, renderer: Renderer, draw: random.Random, number: int, chosen: argparse.Namespace
) -> float:
    sampling = await (await training.save_weights_and_get_sampling_client_async(f"step-{number}"))
    shops = [Shop(good, draw.randint(1, 20)) for good in GOODS]
    groups = [asyncio.gather(*[play(sampling, renderer, shop) for _ in range(chosen.group_size)]) for shop in shops]
    data, episodes = [], []
    for group in await asyncio.gather(*groups):
        episodes += group
        for episode, advantage in zip(group, group_advantages([one.reward for one in group]), strict=True):
            data += [episode.rollout.datum(advantage)] if advantage else []
    reward = sum(episode.reward for episode in episodes) / len(episodes)
    called = sum(len(episode.messages) > 2 for episode in episodes) / len(episodes)
    training.log_metrics({"reward": reward, "called": called})
    said = " | ".join(message["content"] for message in episodes[0].messages)
    print(f"step {number:>2}  reward {reward:.2f}  called {called:.2f}  learns from {len(data)}  {said}")
    if data:  # groups whose rewards are all alike teach nothing
        await training.forward_backward_async(data, "importance_sampling")
        await (await training.optim_step_async(AdamParams(learning_rate=chosen.learning_rate)))
    return reward


async def main() -> None:
    chosen = options()
    draw = random.Random(chosen.seed)
    async with ServiceClient() as service:
        model = os.environ.get("LOOPS_BASE_MODEL", "Qwen/Qwen3-8B")
        training = await service.create_lora_training_client_async(model, rank=chosen.rank, seed=chosen.seed)
        renderer = Renderer(await training.get_tokenizer_async())
        for _ in range(chosen.warm_up):
            await warm_up(training, renderer, draw, AdamParams(learning_rate=2e-3))
        rewards = [await step(training, renderer, draw, number, chosen) for number in range(1, chosen.steps + 1)]
        last = rewards[-3:]
        print(f"reward rose from {rewards[0]:.2f} to {sum(last) / len(last):.2f} (mean of the last {len(last)} steps)")


if __name__ == "__main__":
    asyncio.run(main())
