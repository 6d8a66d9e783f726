"""Supervised fine-tuning from a file of conversations, with evaluation and the choice of the best checkpoint.

    loops examples run sft

What to look at: `loss` is the mean over the assistant's tokens of a batch, in nats; `held_out` that over conversations
which are never trained on. Both fall from 8.8, where the model knows nothing of Pebble Island, to about 0.1. The second
is what counts: with `--steps 180` the first goes on falling while the second is lowest at step 80, and the best
checkpoint is not the last. A line of your own file is `{"messages": [{"role": "user", "content": "..."}, {"role":
"assistant", "content": "..."}]}`, with as many turns as you like: `--train FILE --held-out FILE`. The renderer puts the
loss on what the assistant says, and only there. A line that cannot be learned is named, with the reason.
"""

import argparse
import json
import os
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loops_sdk_sync import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    InvalidInputError,
    Renderer,
    SamplingParams,
    ServiceClient,
    TrainingClient,
)

DATA = Path(__file__).parent / "data"
Conversation = list[dict[str, Any]]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--train", type=Path, default=DATA / "pebble_island.train.jsonl")
    parser.add_argument("--held-out", type=Path, default=DATA / "pebble_island.held_out.jsonl")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--eval-every", type=int, default=10, help="steps from one evaluation to the next")
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read(path: Path) -> dict[int, Conversation]:
    """The conversations of a file, by the numbers of their lines."""
    found = dict[int, Conversation]()
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        try:
            if line.strip():
                found[number] = json.loads(line)["messages"]
        except (ValueError, KeyError, TypeError) as error:
            sys.exit(f'{path}, line {number}: expected {{"messages": [...]}}; {type(error).__name__}: {error}')
    return found or sys.exit(f"{path}: there are no conversations in it")


def learnable(
    path: Path, conversations: dict[int, Conversation], renderer: Renderer, longest: int | None
) -> list[Datum]:
    """The training examples, if the model can take all of them."""
    data = []
    for number, messages in conversations.items():
        try:
            data.append(renderer.datum(messages))
        except InvalidInputError as error:
            sys.exit(f"{path}, line {number}: {error.message}")
        if longest and (length := data[-1].model_input.length) > longest:
            sys.exit(f"{path}, line {number}: {length} tokens, but this trainer takes {longest}; shorten it")
    return data


def mean_loss(output: ForwardBackwardOutput, data: list[Datum]) -> float:
    """The service sums; the mean over what is learned can be compared between batches."""
    return output.loss / sum(int((datum.loss_fn_inputs["target_tokens"].data != -100).sum()) for datum in data)


@dataclass
class Run:
    """A training client, what it is trained on, and what it is measured by."""

    training: TrainingClient
    train: list[Datum]
    held_out: list[Datum]
    chosen: argparse.Namespace
    draw: random.Random
    saved: dict[str, float] = field(default_factory=dict)

    def step(self, number: int) -> None:
        """Both calls go out before either is answered, so the trainer never waits for this program."""
        batch = self.draw.sample(self.train, min(self.chosen.batch_size, len(self.train)))
        passed = self.training.forward_backward(batch)
        stepped = self.training.optim_step(AdamParams(learning_rate=self.chosen.learning_rate))
        loss, norm = mean_loss(passed.result(), batch), stepped.result().metrics["grad_norm"]
        print(f"step {number:>3}  loss {loss:.3f}  grad_norm {norm:.1f}")

    def evaluate(self, number: int) -> None:
        """The loss on the held-out data, and a checkpoint with optimizer state that goes by it."""
        passed = self.training.forward(self.held_out)
        state = self.training.save_state(f"step-{number}")
        path, loss = state.result().path, mean_loss(passed.result(), self.held_out)
        self.saved[path] = loss
        self.training.log_metrics({"held_out_loss": loss}, step=number)
        print(f"step {number:>3}  held_out {loss:.3f}  saved {path}")

    def best(self) -> str:
        return min(self.saved, key=self.saved.__getitem__)


def show(run: Run, renderer: Renderer, conversations: list[Conversation]) -> None:
    """What the model of the best checkpoint answers to questions that it was not trained on."""
    run.training.load_state(run.best()).result()
    sampling = run.training.save_weights_and_get_sampling_client("best").result()
    for messages in conversations[:5]:
        turn = max(place for place, message in enumerate(messages) if message["role"] == "assistant")
        prompt = renderer.prompt(messages[:turn])
        result = sampling.sample(prompt, sampling_params=SamplingParams(temperature=0.0, max_tokens=60))
        answer = renderer.message(result.sequences[0].tokens)["content"]
        print(f"  Q: {messages[turn - 1]['content']}\n  A: {answer}\n     ({messages[turn]['content']})")


def main() -> None:
    chosen = options()
    train, held_out = read(chosen.train), read(chosen.held_out)  # mistakes in them are told before anything is made
    with ServiceClient() as service:
        model = os.environ.get("LOOPS_BASE_MODEL", "Qwen/Qwen3-8B")
        training = service.create_lora_training_client(model, rank=chosen.rank, seed=chosen.seed)
        renderer = Renderer(training.get_tokenizer())
        longest = training.get_info().max_seq_len
        data = learnable(chosen.train, train, renderer, longest)
        others = learnable(chosen.held_out, held_out, renderer, longest)
        run = Run(training, data, others, chosen, random.Random(chosen.seed))
        before = mean_loss(training.forward(run.held_out).result(), run.held_out)
        print(f"run {training.run_id}: {len(run.train)} conversations, {len(run.held_out)} held out")
        print(f"step   0  held_out {before:.3f}")
        for number in range(1, chosen.steps + 1):
            run.step(number)
            if number % chosen.eval_every == 0 or number == chosen.steps:
                run.evaluate(number)
        show(run, renderer, list(held_out.values()))
        best = run.best()
        print(f"held-out loss fell from {before:.3f} to {run.saved[best]:.3f}; best checkpoint: {best}")


if __name__ == "__main__":
    main()
