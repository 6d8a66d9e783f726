"""Engines with honest arithmetic and no torch: a unigram model whose only parameters are one logit per token.

`load_training_engine` and `load_generation_engine` have the signatures of the torch engine, so a deployment can be told
to use this module in its child processes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import AdapterConfig, Generation, GenerationRequest
from loops_sdk.types import AdamParams, Datum, ForwardBackwardOutput, OptimStepResponse, TensorData

VOCAB = 32
EOS = 31
MAX_SEQ_LEN = 64


def load_training_engine(base_model: str, *, cache_dir: Path, max_seq_len: int | None = None) -> Trainer:
    if base_model == "double/refused":
        raise InvalidInputError("base_model: there is no such model")
    if base_model == "double/broken":
        raise ZeroDivisionError("broken on purpose")
    return Trainer(max_seq_len or MAX_SEQ_LEN)


def load_generation_engine(base_model: str, *, cache_dir: Path) -> Generator:
    return Generator()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


class Trainer:
    """Adam on the logits. `gate` can be cleared to hold every pass; `seen` lists what was done, in order."""

    def __init__(self, max_seq_len: int = MAX_SEQ_LEN) -> None:
        self.max_seq_len = max_seq_len
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.seen: list[Any] = []
        self.init_adapter(AdapterConfig())

    def init_adapter(self, config: AdapterConfig) -> None:
        self.config = config
        self.logits = np.zeros(VOCAB)
        self._restart(np.zeros((2, VOCAB)), 0)

    def _restart(self, moments: np.ndarray, step: int) -> None:
        self.moments, self.step = moments, step
        self.gradient: np.ndarray | None = None
        self.failure: str | None = None

    @property
    def adapter_config(self) -> Mapping[str, Any]:
        return {"peft_type": "LORA", "r": self.config.lora_rank, "target_modules": ["logits"]}

    def check(self, data: Sequence[Datum], loss_fn: str, loss_fn_config: Mapping[str, Any] | None) -> None:
        if loss_fn != "cross_entropy":
            raise InvalidInputError(f"loss_fn: expected 'cross_entropy', got {loss_fn!r}")
        if not data:
            raise InvalidInputError("data: expected at least one datum, got none")
        for index, datum in enumerate(data):
            tokens = np.array(datum.model_input.to_ints())
            if not 1 <= tokens.size <= self.max_seq_len or tokens.max() >= VOCAB:
                raise InvalidInputError(
                    f"data[{index}].model_input: expected 1 to {self.max_seq_len} tokens below {VOCAB}"
                )
            targets = datum.loss_fn_inputs.get("target_tokens")
            if targets is not None and (targets.dtype != "int64" or targets.data.max() >= VOCAB):
                raise InvalidInputError(f"data[{index}].loss_fn_inputs['target_tokens']: expected int64 below {VOCAB}")

    def forward(self, data: Sequence[Datum], loss_fn: str, config: Mapping[str, Any] | None) -> ForwardBackwardOutput:
        return self._pass(data, config)[0]

    def forward_backward(
        self, data: Sequence[Datum], loss_fn: str, config: Mapping[str, Any] | None
    ) -> ForwardBackwardOutput:
        if config and config.get("fail"):
            self.poison("ArithmeticError: failed on purpose")
            raise ArithmeticError("failed on purpose")
        output, gradient = self._pass(data, config)
        self.gradient = gradient if self.gradient is None else self.gradient + gradient
        return output

    def _pass(
        self, data: Sequence[Datum], config: Mapping[str, Any] | None
    ) -> tuple[ForwardBackwardOutput, np.ndarray]:
        self.started.release()
        while config and config.get("spin"):
            pass
        assert self.gate.wait(10)
        self.seen.append(data[0].model_input.to_ints()[0])
        logprobs, gradient, outputs = log_softmax(self.logits), np.zeros(VOCAB), []
        for datum in data:
            targets = _targets(datum)
            kept = targets >= 0
            scored = np.where(kept, logprobs[np.where(kept, targets, 0)], 0.0)
            weights = datum.loss_fn_inputs.get("weights")
            scale = np.where(kept, 1.0 if weights is None else weights.data, 0.0)
            gradient += scale.sum() * np.exp(logprobs) - np.bincount(targets[kept], scale[kept], VOCAB)
            outputs.append(
                {"logprobs": TensorData(scored, "float32"), "elementwise_loss": TensorData(-scale * scored, "float32")}
            )
        loss = float(sum(output["elementwise_loss"].data.sum() for output in outputs))
        return ForwardBackwardOutput(loss, {"loss:sum": loss}, outputs), gradient

    def poison(self, reason: str) -> None:
        self.failure = self.failure or reason

    def optim_step(self, params: AdamParams) -> OptimStepResponse:
        gradient, failure = self.gradient, self.failure
        self.gradient = self.failure = None
        if failure is not None:
            raise RuntimeError(f"optim_step: a forward_backward since the last step failed ({failure})")
        if gradient is None:
            raise RuntimeError("optim_step: no gradient has been accumulated; call forward_backward first")
        self.seen.append("step")
        self.step += 1
        first = params.beta1 * self.moments[0] + (1 - params.beta1) * gradient
        second = params.beta2 * self.moments[1] + (1 - params.beta2) * gradient**2
        scale = np.sqrt(second / (1 - params.beta2**self.step)) + params.eps
        self.logits = self.logits - params.learning_rate * first / (1 - params.beta1**self.step) / scale
        norm, rate = float(np.linalg.norm(gradient)), params.learning_rate
        self._restart(np.stack([first, second]), self.step)
        return OptimStepResponse({"step": float(self.step), "learning_rate": rate, "lr": rate, "grad_norm": norm})

    def save_adapter(self, folder: Path) -> None:
        (folder / "adapter_config.json").write_text(json.dumps(self.adapter_config))
        (folder / "adapter_model.json").write_text(json.dumps(self.logits.tolist()))

    def save_state(self, folder: Path) -> None:
        (folder / "state.json").write_text(
            json.dumps(
                {
                    "logits": self.logits.tolist(),
                    "moments": self.moments.tolist(),
                    "step": self.step,
                    "config": attrs.asdict(self.config),
                }
            )
        )

    def load_state(self, folder: Path, *, optimizer: bool) -> None:
        state = json.loads((folder / "state.json").read_text())
        saved = AdapterConfig(**state["config"])
        if saved.lora_rank != self.config.lora_rank:
            raise RuntimeError(f"saved with r={saved.lora_rank}, this adapter has {self.config.lora_rank}")
        self.config = saved
        self.logits = np.array(state["logits"])
        self._restart(np.array(state["moments"]) if optimizer else np.zeros((2, VOCAB)), state["step"] * optimizer)


def _targets(datum: Datum) -> np.ndarray:
    given = datum.loss_fn_inputs.get("target_tokens")
    return given.data if given is not None else np.array([*datum.model_input.to_ints()[1:], -100])


@attrs.define
class _Row:
    request: GenerationRequest
    logprobs: np.ndarray
    tokens: list[list[int]]


class Generator:
    """One token per step for everything that runs. `gate` can be cleared to hold every step."""

    def __init__(self) -> None:
        self.max_seq_len = MAX_SEQ_LEN
        self.tokenizer_path = "/nowhere"
        self.gate = threading.Event()
        self.gate.set()
        self.cancelled = threading.Semaphore(0)
        self.adapters: dict[str, np.ndarray] = {}
        self.loads = 0
        self.fail_next: Exception | None = None
        self._rows: dict[int, _Row] = {}
        self._tickets = 0

    @property
    def pending(self) -> int:
        return len(self._rows)

    def encode(self, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
        """A text is its characters; of a conversation there is no template for one that begins with the system."""
        if isinstance(prompt, str):
            return [ord(letter) % VOCAB for letter in prompt]
        if prompt[0]["role"] == "system":
            raise InvalidInputError("prompt: there is no chat template")
        return [ord(letter) % VOCAB for message in prompt for letter in message["content"]]

    def load_adapter(self, name: str, folder: Path) -> None:
        self.adapters[name] = log_softmax(np.array(json.loads((folder / "adapter_model.json").read_text())))
        self.loads += 1

    def unload_adapter(self, name: str) -> None:
        self.adapters.pop(name, None)

    def check(self, request: GenerationRequest) -> None:
        if not 1 <= len(request.prompt) < self.max_seq_len or max(request.prompt) >= VOCAB:
            raise InvalidInputError(f"prompt: expected 1 to {self.max_seq_len - 1} tokens below {VOCAB}")
        if request.adapter is not None and request.adapter not in self.adapters:
            raise InvalidInputError(f"adapter: {request.adapter!r} is not loaded")

    def add(self, request: GenerationRequest) -> int:
        self._tickets += 1
        base = log_softmax(np.zeros(VOCAB))
        logprobs = base if request.adapter is None else self.adapters[request.adapter]
        self._rows[self._tickets] = _Row(request, logprobs, [[] for _ in range(request.num_samples)])
        return self._tickets

    def cancel(self, ticket: int) -> None:
        if self._rows.pop(ticket, None) is not None:
            self.cancelled.release()

    def step(self) -> list[tuple[int, Generation | Exception]]:
        self.gate.wait(0.01)
        if not self.gate.is_set():
            return []
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        finished: list[tuple[int, Generation | Exception]] = []
        for ticket, row in list(self._rows.items()):
            for index, tokens in enumerate(row.tokens):
                if not _ended(row, tokens):
                    tokens.append(_draw(row, index, len(tokens)))
            if all(_ended(row, tokens) for tokens in row.tokens):
                del self._rows[ticket]
                finished.append((ticket, _generation(row)))
        return finished


def _ended(row: _Row, tokens: list[int]) -> bool:
    stops = {EOS, *(stop for stop in row.request.params.stop if isinstance(stop, int))}
    return len(tokens) == row.request.params.max_tokens or bool(tokens and tokens[-1] in stops)


def _draw(row: _Row, index: int, position: int) -> int:
    params = row.request.params
    if params.temperature == 0:
        return int(row.logprobs.argmax())
    random = np.random.default_rng([params.seed or 0, index, position])
    return int((row.logprobs / params.temperature + random.gumbel(size=VOCAB)).argmax())


def _generation(row: _Row) -> Generation:
    prompt: list[dict[int, tuple[float, int]] | None] = [None]
    rank = {int(token): index + 1 for index, token in enumerate(np.argsort(-row.logprobs, kind="stable"))}
    best = sorted(rank, key=rank.__getitem__)[: row.request.prompt_logprobs or 0]
    for token in row.request.prompt[1:]:
        prompt.append({one: (float(row.logprobs[one]), rank[one]) for one in {token, *best}})
    return Generation(
        tokens=row.tokens,
        logprobs=[[float(row.logprobs[token]) for token in tokens] for tokens in row.tokens],
        texts=[" ".join(map(str, tokens)) for tokens in row.tokens],
        finish_reasons=["stop" if len(t) < (row.request.params.max_tokens or 0) else "length" for t in row.tokens],
        prompt_logprobs=None if row.request.prompt_logprobs is None else prompt,
    )
