"""On-policy distillation: a student answers, a better model judges every token of it, and the student follows.

    loops examples run distillation                                        # on this machine, in about a minute
    loops examples run --service distillation --teacher Qwen/Qwen3-32B     # on the service, with BASETEN_API_KEY

A step samples answers from the student and asks the teacher how likely it finds the very tokens that the student chose
(`compute_logprobs`). The advantage of a token is log p(teacher) - log p(student): what the teacher finds likelier is
encouraged, what it would not say is discouraged, token by token, where a reward comes once per answer. Look at `kl`,
the mean of the negative of that: an estimate of the reverse KL divergence from student to teacher, in nats per token,
which falls; and at `right`, the share of right sums among the student's answers, which rises towards the teacher's,
although nobody tells the student what is right. It cannot learn what it never tries: begin with one that can speak.

A teacher is anything that can be sampled from and has the student's tokenizer: a larger model, or a checkpoint of any
run (`--teacher NAME` or `--teacher bt://...`). A deployment on this machine serves one base model, so by default the
teacher is that model with an adapter of a higher rank, fine-tuned first, for a few steps, on questions with answers.
"""

import argparse
import asyncio
import os
import random
from dataclasses import dataclass
from statistics import fmean as mean

from loops_sdk import AdamParams, Datum, Renderer, Rollout, SamplingClient, SamplingParams, ServiceClient

Question = tuple[int, int]
Message = dict[str, str]


@dataclass
class Answer:
    rollout: Rollout
    logprobs: list[float]  # of the sampled tokens, by whoever sampled them
    right: bool


def asked(question: Question) -> list[Message]:
    return [{"role": "user", "content": f"What is {question[0]} + {question[1]}?"}]


def answered(question: Question) -> list[Message]:
    return [*asked(question), {"role": "assistant", "content": str(sum(question))}]


async def teach(service: ServiceClient, base_model: str, questions: list[Question], options: argparse.Namespace) -> str:
    """Fine-tunes a teacher on the answers; gives the address of its checkpoint."""
    draw, adam = random.Random(options.seed), AdamParams(learning_rate=3e-3)
    training = await service.create_lora_training_client_async(base_model, rank=4 * options.rank, seed=options.seed)
    renderer = Renderer(await training.get_tokenizer_async())
    for step in range(1, options.teacher_steps + 1):
        data = [renderer.datum(answered(question)) for question in draw.sample(questions, min(64, len(questions)))]
        passing = await training.forward_backward_async(data)
        await training.optim_step_async(adam)
        passed = await passing
        print(f"teacher, step {step:>2}  loss {passed.loss / passed.metrics['loss_tokens:sum']:.3f}", flush=True)
    saved = await (await training.save_weights_for_sampler_async("teacher"))
    print(f"teacher saved: --teacher {saved.path}", flush=True)
    return saved.path


async def sampler_of(service: ServiceClient, teacher: str) -> SamplingClient:
    if teacher.startswith("bt://"):
        return await service.create_sampling_client_from_checkpoint_async(teacher)
    return await service.create_sampling_client_async(teacher)


async def ask(sampler: SamplingClient, renderer: Renderer, questions: list[Question], count: int) -> list[Answer]:
    """`count` answers to each question, all at once."""

    async def one(question: Question) -> list[Answer]:
        prompt = renderer.prompt(asked(question))
        result = await sampler.sample_async(prompt, count, SamplingParams(max_tokens=16))
        given = []
        for sequence in result.sequences:
            rollout = Rollout(prompt)
            rollout.sampled(sequence)
            said = renderer.message(sequence.tokens)["content"].strip()
            given.append(Answer(rollout, list(sequence.logprobs), said == str(sum(question))))
        return given

    return [answer for group in await asyncio.gather(*map(one, questions)) for answer in group]


async def judged(teacher: SamplingClient, answer: Answer) -> list[float]:
    """How much likelier the teacher finds each token than the student did, in nats."""
    everything = await teacher.compute_logprobs_async(answer.rollout.prompt)  # the question's tokens, too
    theirs = everything[-len(answer.logprobs) :]
    return [their - own for their, own in zip(theirs, answer.logprobs, strict=True) if their is not None]


def share(answers: list[Answer]) -> float:
    return mean([answer.right for answer in answers])


async def main(options: argparse.Namespace) -> None:
    base_model = os.environ.get("LOOPS_BASE_MODEL", "Qwen/Qwen3-8B")
    questions = [(a, b) for a in range(10) for b in range(10)]
    draw, kl, right = random.Random(options.seed), list[float](), list[float]()
    async with ServiceClient() as service:
        teacher = await sampler_of(service, options.teacher or await teach(service, base_model, questions, options))
        training = await service.create_lora_training_client_async(base_model, rank=options.rank, seed=options.seed)
        renderer = Renderer(await training.get_tokenizer_async())
        best = share(await ask(teacher, renderer, questions, 2))
        print(f"the teacher's answers: right {best:.2f}", flush=True)
        student = await (await training.save_weights_and_get_sampling_client_async("step-0"))
        for step in range(1, options.steps + 1):
            sheet = draw.sample(questions, options.questions)
            answers = await ask(student, renderer, sheet, options.group_size)
            gains = await asyncio.gather(*[judged(teacher, answer) for answer in answers])
            kl.append(-sum(map(sum, gains)) / sum(map(len, gains)))
            right.append(share(answers))
            training.log_metrics({"kl_to_teacher": kl[-1], "right": right[-1]})
            data: list[Datum] = [one.rollout.datum(gain) for one, gain in zip(answers, gains, strict=True)]
            await training.forward_backward_async(data, options.loss)
            await training.optim_step_async(AdamParams(options.learning_rate))
            student = await (await training.save_weights_and_get_sampling_client_async(f"step-{step}"))
            print(f"step {step:>3}  kl {kl[-1]:.3f}  right {right[-1]:.2f}", flush=True)
    print(
        f"reverse KL to the teacher fell from {mean(kl[:3]):.3f} to {mean(kl[-3:]):.3f} nats per token; right answers "
        f"rose from {mean(right[:3]):.0%} to {mean(right[-3:]):.0%}, the teacher has {best:.0%} (means of 3 steps)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=25, help="optimizer steps of the student (25)")
    parser.add_argument("--questions", type=int, default=32, help="asked in every step (32)")
    parser.add_argument("--group-size", type=int, default=4, help="answers per question (4)")
    parser.add_argument("--teacher", metavar="MODEL", help="name of a base model, or a bt:// address for the sampler")
    parser.add_argument("--teacher-steps", type=int, default=12, help="of fine-tuning, without --teacher (12)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="Adam's step size (2e-3)")
    parser.add_argument("--rank", type=int, default=16, help="of the student's adapter (16)")
    parser.add_argument("--loss", choices=["importance_sampling", "ppo"], default="importance_sampling")
    parser.add_argument("--seed", type=int, default=0, help="of the adapters and of the questions (0)")
    asyncio.run(main(parser.parse_args()))
