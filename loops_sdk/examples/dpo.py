"""Direct preference optimization: from pairs of answers, of which one is preferred, without a reward model.

    loops examples run dpo

What to look at: the model answers a sum mostly with the bare result, "12", and now and then with the whole sum,
"7 + 5 = 12". The pairs say that the second is preferred. `margin` is how much further the preferred answer has moved
ahead of the other one than it was in the model we began with, in nats times beta: it starts at 0 and rises, and with
it the share of whole sums among sampled answers to questions that were not trained on (`preferred`). `chosen` is how
many nats the preferred answer itself has gained. Try `--sft-weight 0`: the margin rises even faster, for the other
answer falls, but `chosen` turns down, the model forgets how to speak, and `right` goes to 0. The reference is the
trainer itself before its first step; a sampler of any checkpoint would do as well. The loss is a function of your own,
which runs here.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Sequence

import torch

from loops_sdk_sync import (
    AdamParams,
    Datum,
    Renderer,
    SamplingParams,
    ServiceClient,
    TrainingClient,
    attach_reference_logprobs,
)

Pair = tuple[str, str, str]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=16, help="pairs per step")
    parser.add_argument("--beta", type=float, default=0.1, help="how dear it is to leave the reference")
    parser.add_argument("--sft-weight", type=float, default=0.5, help="weight of the preferred answers' plain loss")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def pairs() -> list[Pair]:
    """Question, preferred answer, other answer: replace them by your own."""
    sums = [(a, b) for a in range(21) for b in range(21)]
    return [(f"What is {a} + {b}?", f"{a} + {b} = {a + b}", f"{a + b}") for a, b in sums]


def data_of(renderer: Renderer, batch: Sequence[Pair]) -> list[Datum]:
    """Two datums for each pair, the preferred one first."""
    asked = [(question, answer) for question, *answers in batch for answer in answers]
    return [
        renderer.datum([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
        for question, answer in asked
    ]


class DPO:
    """The loss (arXiv 2305.18290, equation 7; with a plain loss beside it arXiv 2404.19733), as a function of the
    log-probabilities that the trainer reports."""

    def __init__(self, beta: float, sft_weight: float) -> None:
        self.beta, self.sft_weight = beta, sft_weight

    def __call__(self, data: list[Datum], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
        gains = torch.stack([
            (policy - datum.loss_fn_inputs["reference_logprobs"].to_torch()).sum()
            for datum, policy in zip(data, logprobs, strict=True)
        ])  # fmt: skip
        margins = self.beta * (gains[0::2] - gains[1::2])
        ahead = (margins > 0).float().mean().item()
        plain = -torch.stack([policy.sum() for policy in logprobs[0::2]])
        loss = (-torch.nn.functional.logsigmoid(margins) + self.sft_weight * plain).sum()
        return loss, {"margin": margins.mean().item(), "ahead": ahead, "chosen": gains[0::2].mean().item()}


def exam(training: TrainingClient, renderer: Renderer, asked: Sequence[Pair], name: str) -> float:
    """The share of sampled answers that are of the preferred kind."""
    sampling = training.save_weights_and_get_sampling_client(name).result()
    whole = right = 0
    for question, preferred, other in asked:
        prompt = renderer.prompt([{"role": "user", "content": question}])
        result = sampling.sample(prompt, num_samples=4, sampling_params=SamplingParams(max_tokens=16))
        said = [renderer.message(sequence.tokens)["content"] for sequence in result.sequences]
        whole += sum("=" in answer for answer in said)
        right += sum(answer in (preferred, other) for answer in said)
    count = 4 * len(asked)
    print(f"{name}: preferred {whole / count:.2f}  right {right / count:.2f}   {question} -> {said[0]}")
    return whole / count


def main() -> None:
    chosen = options()
    draw = random.Random(chosen.seed)
    every = draw.sample(pairs(), len(pairs()))
    held_out, learned = every[:32], every[32:]
    with ServiceClient() as service:
        model = os.environ.get("LOOPS_BASE_MODEL", "Qwen/Qwen3-8B")
        training = service.create_lora_training_client(model, rank=chosen.rank, seed=chosen.seed)
        renderer = Renderer(training.get_tokenizer())
        before = exam(training, renderer, held_out, "before")
        batches = [draw.sample(learned, chosen.batch_size) for _ in range(chosen.steps)]
        asked = [attach_reference_logprobs(data_of(renderer, batch), training) for batch in batches]
        for number, data in enumerate(asked, 1):
            passed = training.forward_backward_custom(data, DPO(chosen.beta, chosen.sft_weight))
            stepped = training.optim_step(AdamParams(learning_rate=chosen.learning_rate))
            told = passed.result().metrics
            training.log_metrics({name: told[name] for name in ("margin", "ahead", "chosen")}, step=number)
            stepped.result()
            print(
                f"step {number:>3}  loss {told['loss:sum'] / chosen.batch_size:.3f}  margin {told['margin']:.3f}  "
                f"ahead {told['ahead']:.2f}  chosen {told['chosen']:.2f}"
            )
        after = exam(training, renderer, held_out, "after")
        print(f"margin rose to {told['margin']:.2f}; preferred answers rose from {before:.0%} to {after:.0%}")


if __name__ == "__main__":
    main()
