"""GRPO on arithmetic: a model is rewarded for right answers and gives more of them, step by step.

    loops examples run grpo                # on this machine, in less than a minute
    loops examples run --service grpo      # on the service, with BASETEN_API_KEY

Every step asks a sheet of sums, each several times over, and rewards every answer (`reward`: put your own there). An
answer's advantage is its reward minus the mean of its group, so nobody has to estimate what a question is worth (group
relative policy optimization, arXiv 2402.03300). Look at `reward`, which rises; at `groups`, the questions that taught
something (where all answers were right, or all wrong, there is nothing to compare), which get fewer; and at `kl`, how
far the trainer is from the sampler on what was sampled: both hold the same weights here, so anything but zero would
mean that they do not compute the same model. `loss` says nothing of progress: advantages sum to zero in every group, so
it only tells that wrong answers are longer than right ones. What a small model learns in so short a time is this sheet,
not addition: try `--questions 100 --steps 100`. `grpo_async` does the same and samples while it trains.
"""

import argparse
import asyncio
import os
import random

from loops_sdk import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    Renderer,
    Rollout,
    SamplingClient,
    SamplingParams,
    ServiceClient,
    group_advantages,
)

Question = tuple[int, int]
Group = list[tuple[Rollout, float]]


def reward(question: Question, answer: str) -> float:
    """1 for the right number and nothing else."""
    return float(answer.strip() == str(sum(question)))


async def answers(sampler: SamplingClient, renderer: Renderer, question: Question, count: int) -> Group:
    """A group: `count` answers to one question, each with its reward."""
    a, b = question
    prompt = renderer.prompt([{"role": "user", "content": f"What is {a} + {b}?"}])
    result = await sampler.sample_async(prompt, count, SamplingParams(max_tokens=16))
    group = []
    for sequence in result.sequences:
        rollout = Rollout(prompt)
        rollout.sampled(sequence)
        group.append((rollout, reward(question, renderer.message(sequence.tokens)["content"])))
    return group


def learnable(groups: list[Group]) -> list[Datum]:
    """A datum per answer, of the groups whose answers differ in reward."""
    data = []
    for group in groups:
        advantages = group_advantages([value for _, value in group])
        if any(advantages):
            data += [rollout.datum(advantage) for (rollout, _), advantage in zip(group, advantages, strict=True)]
    return data


def kl(data: list[Datum], passed: ForwardBackwardOutput) -> float:
    """From sampler to trainer, in nats per sampled token: the mean of log p(sampler) - log p(trainer)."""
    sampled = sum(float(datum.loss_fn_inputs["logprobs"].to_numpy().sum()) for datum in data)
    trained = sum(float(output["logprobs"].to_numpy().sum()) for output in passed.loss_fn_outputs)
    return (sampled - trained) / sum(float(datum.loss_fn_inputs["mask"].to_numpy().sum()) for datum in data)


async def main(options: argparse.Namespace) -> None:
    base_model = os.environ.get("LOOPS_BASE_MODEL", "Qwen/Qwen3-8B")
    adam = AdamParams(learning_rate=options.learning_rate)
    sums = [(a, b) for a in range(options.largest + 1) for b in range(options.largest + 1)]
    sheet = random.Random(options.seed).sample(sums, options.questions)
    rewards: list[float] = []
    async with ServiceClient() as service:
        training = await service.create_lora_training_client_async(base_model, rank=options.rank, seed=options.seed)
        renderer = Renderer(await training.get_tokenizer_async())
        sampler = await (await training.save_weights_and_get_sampling_client_async("step-0"))
        for step in range(1, options.steps + 1):
            groups = await asyncio.gather(
                *[answers(sampler, renderer, question, options.group_size) for question in sheet]
            )
            rewards.append(sum(value for group in groups for _, value in group) / (len(sheet) * options.group_size))
            data = learnable(groups)
            if not data:
                print(f"step {step:>3}  reward {rewards[-1]:.3f}  groups  0, nothing to learn from", flush=True)
                continue
            training.log_metrics({"reward": rewards[-1]})  # beside the loss: in `loops plot` and on the local page
            # Three submissions, and only then a wait: the trainer goes from one to the next without us.
            passing = await training.forward_backward_async(data, options.loss)
            await training.optim_step_async(adam)
            publishing = await training.save_weights_and_get_sampling_client_async(f"step-{step}")
            passed = await passing
            print(
                f"step {step:>3}  reward {rewards[-1]:.3f}  groups {len(data) // options.group_size:>2}  "
                f"loss {passed.loss:8.3f}  kl {kl(data, passed):z.5f}",
                flush=True,
            )
            sampler = await publishing
    print(f"reward went from {rewards[0]:.3f} to {rewards[-1]:.3f} in {options.steps} steps")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps (12)")
    parser.add_argument("--questions", type=int, default=16, help="on the sheet, all asked in every step (16)")
    parser.add_argument("--largest", type=int, default=9, help="largest number to be added (9)")
    parser.add_argument("--group-size", type=int, default=8, help="answers per question (8)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="Adam's step size (2e-3)")
    parser.add_argument("--rank", type=int, default=16, help="of the adapter (16)")
    parser.add_argument("--loss", choices=["importance_sampling", "ppo", "cispo"], default="importance_sampling")
    parser.add_argument("--seed", type=int, default=0, help="of the adapter and of the sheet (0)")
    asyncio.run(main(parser.parse_args()))
