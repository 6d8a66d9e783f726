"""On-policy distillation: a student answers, a better model judges every token of it, and the student follows.

    loops examples run distillation    # on this machine, in a minute or two
    loops examples run --service distillation --teacher Qwen/Qwen3-32B --teacher-steps 0    # BASETEN_API_KEY is set

A step samples answers from the student and asks the teacher how likely it finds the very tokens that the student chose.
A token's advantage is log p(teacher) - log p(student): a verdict on every token, where a reward is one number per
answer. Look at `kl`, the reverse KL divergence from student to teacher in nats per token, estimated on the student's
own answers, which falls; and at `right`, the share of right sums, which rises towards the teacher's although the
student is never told what is right. At the end both are measured on sums that it was never asked, too, where it gains
less: a model as small as this one learns its sheet rather than addition. No student learns what it never tries.

A teacher is whatever can be sampled from and has the student's tokenizer. A deployment on this machine serves one base
model, so by default the teacher is no larger: it is that model with an adapter of four times the rank, fine-tuned first
on the sums and their answers. A larger one goes into `--teacher`: its name, or the bt:// address of any checkpoint for
samplers. If another deployment has it, such as `loops serve --base-model LARGER`, `--teacher-url` says where, and
TEACHER_API_KEY holds the key of that one.
"""

import argparse
import asyncio
import os
import random
from dataclasses import dataclass
from statistics import fmean

from loops_sdk import AdamParams, Renderer, Rollout, SampledSequence, SamplingClient, SamplingParams, ServiceClient

Question = tuple[int, int]
SUMS = [(a, b) for a in range(10) for b in range(10)]


@dataclass
class Answer:
    rollout: Rollout
    right: bool
    gains: list[float]  # how much likelier the teacher finds each sampled token than the student did, in nats


def asked(question: Question) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is {question[0]} + {question[1]}?"}]


async def teach(service: ServiceClient, base_model: str, options: argparse.Namespace) -> str:
    """Fine-tunes a teacher on sums and their answers; gives the address of its checkpoint."""
    draw, rank = random.Random(options.seed), 4 * options.rank
    training = await service.create_lora_training_client_async(base_model, rank, seed=options.seed, with_sampler=False)
    renderer = Renderer(await training.get_tokenizer_async())
    data = [renderer.datum([*asked(one), {"role": "assistant", "content": str(sum(one))}]) for one in SUMS]
    for step in range(1, options.teacher_steps + 1):
        passing = await training.forward_backward_async(draw.sample(data, 64))
        await training.optim_step_async(AdamParams(learning_rate=3e-3))
        passed = await passing
        print(f"teacher, step {step:>2}  loss {passed.loss / passed.metrics['loss_tokens:sum']:.3f}", flush=True)
    saved = await (await training.save_weights_for_sampler_async("teacher"))
    print(f"teacher saved, for another time: --teacher {saved.path}", flush=True)
    return saved.path


async def teacher_of(service: ServiceClient, base_model: str, options: argparse.Namespace) -> SamplingClient:
    """A checkpoint, a model as it is, or one that is fine-tuned first."""
    name = options.teacher or base_model
    if options.teacher_steps and not name.startswith("bt://"):
        name = await teach(service, name, options)
    if name.startswith("bt://"):
        return await service.create_sampling_client_from_checkpoint_async(name)
    return await service.create_sampling_client_async(name)


async def answers(
    student: SamplingClient, teacher: SamplingClient, renderer: Renderer, questions: list[Question], count: int
) -> list[Answer]:
    """`count` answers of the student to each question, all at once, each judged by the teacher."""

    async def judged(question: Question, rollout: Rollout, sequence: SampledSequence) -> Answer:
        rollout.sampled(sequence)
        theirs = rollout.of_sampled(await teacher.compute_logprobs_async(rollout.prompt))
        gains = [their - own for their, own in zip(theirs, rollout.logprobs, strict=True)]
        return Answer(rollout, renderer.message(sequence.tokens)["content"].strip() == str(sum(question)), gains)

    async def one(question: Question) -> list[Answer]:
        prompt = renderer.prompt(asked(question))
        result = await student.sample_async(prompt, count, SamplingParams(max_tokens=16))
        return await asyncio.gather(*[judged(question, Rollout(prompt), each) for each in result.sequences])

    return [answer for group in await asyncio.gather(*map(one, questions)) for answer in group]


def figures(given: list[Answer]) -> tuple[float, float]:
    """The reverse KL to the teacher, and the share of right answers."""
    return -fmean([gain for answer in given for gain in answer.gains]), fmean([answer.right for answer in given])


async def main(options: argparse.Namespace) -> None:
    base_model = os.environ.get("LOOPS_BASE_MODEL", "Qwen/Qwen3-8B")
    draw = random.Random(options.seed)
    sums = draw.sample(SUMS, len(SUMS))
    held_out, sheet = sums[:25], sums[25:]
    there = {"base_url": options.teacher_url, "api_key": os.environ.get("TEACHER_API_KEY")}
    steps, held = list[tuple[float, float]](), list[tuple[float, float]]()
    async with ServiceClient() as service, ServiceClient(**there if options.teacher_url else {}) as elsewhere:
        teacher = await teacher_of(elsewhere, base_model, options)
        training = await service.create_lora_training_client_async(base_model, options.rank, seed=options.seed)
        renderer = Renderer(await training.get_tokenizer_async())
        student = await (await training.save_weights_and_get_sampling_client_async("step-0"))
        _, best = figures(await answers(teacher, teacher, renderer, SUMS, 1))
        print(f"the teacher's own answers: right {best:.2f}", flush=True)
        held.append(figures(await answers(student, teacher, renderer, held_out, 2 * options.group_size)))
        for step in range(1, options.steps + 1):
            given = await answers(student, teacher, renderer, draw.sample(sheet, options.questions), options.group_size)
            kl, right = figures(given)
            steps.append((kl, right))
            training.log_metrics({"kl_to_teacher": kl, "right": right})
            # Less what a token is worth on average: the direction stays as it is, and has less noise.
            data = [answer.rollout.datum([gain + kl for gain in answer.gains]) for answer in given]
            await training.forward_backward_async(data, options.loss)
            await training.optim_step_async(AdamParams(options.learning_rate))
            student = await (await training.save_weights_and_get_sampling_client_async(f"step-{step}"))
            print(f"step {step:>3}  kl {kl:.3f}  right {right:.2f}", flush=True)
        held.append(figures(await answers(student, teacher, renderer, held_out, 2 * options.group_size)))
    print("held out: kl {0:.3f} -> {2:.3f}  right {1:.2f} -> {3:.2f}".format(*held[0], *held[1]))
    begun, ended = [[fmean(each) for each in zip(*some, strict=True)] for some in (steps[:3], steps[-3:])]
    print(
        f"reverse KL to the teacher fell from {begun[0]:.3f} to {ended[0]:.3f} nats per token; "
        f"right answers rose from {begun[1]:.0%} to {ended[1]:.0%} (means of 3 steps)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=25, help="optimizer steps of the student (25)")
    parser.add_argument("--questions", type=int, default=32, help="asked in every step (32)")
    parser.add_argument("--group-size", type=int, default=4, help="answers per question (4)")
    parser.add_argument("--teacher", metavar="MODEL", help="base model or bt:// address of the teacher")
    parser.add_argument("--teacher-steps", type=int, default=15, help="fine-tune a base model first; 0: as it is (15)")
    parser.add_argument("--teacher-url", help="of the deployment that has the teacher; its key: TEACHER_API_KEY")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="Adam's step size (2e-3)")
    parser.add_argument("--rank", type=int, default=16, help="of the student's adapter (16)")
    parser.add_argument("--loss", choices=["importance_sampling", "ppo"], default="importance_sampling")
    parser.add_argument("--seed", type=int, default=0, help="of the adapters and of the questions (0)")
    asyncio.run(main(parser.parse_args()))
