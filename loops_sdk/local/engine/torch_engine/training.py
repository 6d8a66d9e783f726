"""The training engine on torch: micro-batches through the backbone, targets through the head, AdamW on the adapter.

It decides when gradients accumulate, apply and are thrown away. Formulas, files and the model are others' business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loops_sdk.local.engine import datums, losses
from loops_sdk.local.engine.protocol import AdapterConfig
from loops_sdk.local.engine.results import Results
from loops_sdk.local.engine.torch_engine.adamw import Moments, adamw_step, global_norm
from loops_sdk.local.engine.torch_engine.adapters import TrainedAdapter
from loops_sdk.local.engine.torch_engine.batching import plan
from loops_sdk.local.engine.torch_engine.files import read_tensors, require_like, write_json, write_tensors
from loops_sdk.local.engine.torch_engine.models import BaseModel
from loops_sdk.local.engine.torch_engine.scoring import Scorer
from loops_sdk.types import AdamParams, Datum, ForwardBackwardOutput, OptimStepResponse

__all__ = ["TorchTrainingEngine"]

#: Padded tokens of one micro-batch: enough to keep the processor busy, few enough to keep activations small.
_TOKEN_BUDGET = {"cpu": 2048, "cuda": 16384}

_STATE_FILE = "training_state.json"
_MOMENTS_FILE = "optimizer.safetensors"
#: Names of a tensor's two moments, as torch calls them.
_FIRST, _SECOND = "{}.exp_avg", "{}.exp_avg_sq"


class TorchTrainingEngine:
    """A `TrainingEngine` over a transformers model. Starts with a fresh adapter of the default configuration.

    Args:
        base: the model. The engine puts its adapter into it.
        token_budget: most padded tokens of a micro-batch; default by device. Results do not depend on it.
    """

    def __init__(self, base: BaseModel, *, token_budget: int | None = None) -> None:
        self._base = base
        self._budget = token_budget or _TOKEN_BUDGET[base.device.type]
        self._adapter = TrainedAdapter(base, AdapterConfig())
        self._reset(Moments.fresh(self._adapter.tensors.values()))

    def _reset(self, moments: Moments) -> None:
        self._moments = moments
        self._clear()

    def _clear(self) -> None:
        """Drop the accumulated gradients. The window is empty, open, or poisoned by a failure."""
        self._open = False
        self._failure: str | None = None
        for tensor in self._adapter.tensors.values():
            tensor.grad = None

    @property
    def base_model(self) -> str:
        """The base model as it was asked for."""
        return self._base.name

    @property
    def tokenizer_path(self) -> str:
        """A folder or hub id for `AutoTokenizer.from_pretrained`."""
        return self._base.path

    @property
    def max_seq_len(self) -> int:
        """Longest sequence the model takes, in tokens."""
        return self._base.limits.max_seq_len

    @property
    def step(self) -> int:
        """Number of optimizer steps applied since the adapter was fresh."""
        return self._moments.step

    @property
    def adapter_config(self) -> Mapping[str, Any]:
        """The adapter's configuration as PEFT writes it to ``adapter_config.json``."""
        return self._adapter.config

    def init_adapter(self, config: AdapterConfig) -> None:
        """Replace the adapter by a fresh one, drop gradients and moments, set `step` to 0.

        Raises:
            InvalidInputError: a chosen part has no layers in this model. The old adapter stays.
        """
        self._base.linears.targets(config)  # refuses before anything has changed
        self._replace(config)

    def _replace(self, config: AdapterConfig) -> None:
        self._adapter.remove()
        self._adapter = TrainedAdapter(self._base, config)
        self._reset(Moments.fresh(self._adapter.tensors.values()))

    def check(self, data: Sequence[Datum], loss_fn: str, loss_fn_config: Mapping[str, Any] | None) -> None:
        """Refuse what could not be computed; see `TrainingEngine.check`."""
        datums.check(data, loss_fn, loss_fn_config, self._base.limits)

    def forward(
        self, data: Sequence[Datum], loss_fn: str, loss_fn_config: Mapping[str, Any] | None
    ) -> ForwardBackwardOutput:
        """Loss and logprobs without gradients; what has accumulated stays."""
        self.check(data, loss_fn, loss_fn_config)
        with torch.no_grad():
            return self._run(data, loss_fn, loss_fn_config, backward=False)

    def forward_backward(
        self, data: Sequence[Datum], loss_fn: str, loss_fn_config: Mapping[str, Any] | None
    ) -> ForwardBackwardOutput:
        """Loss and logprobs; adds the gradient of the summed loss to what has accumulated since the last step.

        A failure in the middle leaves part of the batch in the gradients: the next `optim_step` refuses to apply them.
        """
        self.check(data, loss_fn, loss_fn_config)
        self._open = True
        try:
            return self._run(data, loss_fn, loss_fn_config, backward=True)
        except BaseException as error:
            self.poison(f"{type(error).__name__}: {error}")
            raise

    def poison(self, reason: str) -> None:
        """Make the next `optim_step` refuse and name `reason`, or the first of several."""
        self._open, self._failure = True, self._failure or reason

    def _run(
        self, data: Sequence[Datum], loss_fn: str, config: Mapping[str, Any] | None, *, backward: bool
    ) -> ForwardBackwardOutput:
        settings = losses.settings(loss_fn, config)
        results = Results(len(data), losses.LOSSES[loss_fn].reports)
        lengths = [datum.model_input.length for datum in data]
        for order in plan(lengths, self._budget):
            batch = datums.columns([data[index] for index in order], loss_fn, settings)
            sizes = [lengths[index] for index in order]
            results.add(order, sizes, batch, self._pass(batch, sizes, losses.LOSSES[loss_fn], settings, backward))
        return results.output()

    def _pass(
        self, batch: datums.Columns, sizes: list[int], loss: losses.Loss, settings: Mapping[str, Any], backward: bool
    ) -> dict[str, Any]:
        tokens, positions = self._padded(batch, sizes)
        lora = self._adapter.pair(self._base.head.path)
        scorer = Scorer(self._base.head, lora, loss, settings, batch, positions)
        hidden: Tensor = self._base.backbone(input_ids=tokens, use_cache=False).last_hidden_state
        flat = hidden.reshape(-1, hidden.shape[-1])
        if backward:
            scorer.forward_backward(flat)
        else:
            scorer.forward(flat)
        return scorer.columns()

    def _padded(self, batch: datums.Columns, sizes: list[int]) -> tuple[Tensor, Tensor]:
        """Tokens ``[rows, longest]`` padded on the right, and where each token went in them, flattened.

        Padding comes after every real token and attention is causal, so no mask is needed to keep it out.
        """
        width = max(sizes)
        positions = np.concatenate([np.arange(size) + row * width for row, size in enumerate(sizes)])
        tokens = np.zeros(len(sizes) * width, np.int64)
        tokens[positions] = batch.tokens
        device = self._base.device
        return torch.from_numpy(tokens).view(len(sizes), width).to(device), torch.from_numpy(positions).to(device)

    def optim_step(self, params: AdamParams) -> OptimStepResponse:
        """One AdamW step with the accumulated gradients, which are cleared.

        Raises:
            RuntimeError: nothing accumulated, a failed `forward_backward` since the last step, or a non-finite gradient
                norm. The gradients are cleared, the weights untouched.
        """
        try:
            return OptimStepResponse(self._apply(params))
        finally:
            self._clear()

    def _apply(self, params: AdamParams) -> dict[str, float]:
        tensors = list(self._adapter.tensors.values())
        self._require_whole()
        gradients = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in tensors]
        norm = global_norm(gradients)
        if not math.isfinite(norm):
            raise RuntimeError(f"optim_step: the gradient norm is {norm}; gradients cleared, no step taken")
        clipped = norm
        if 0 < params.grad_clip_norm < norm:
            for gradient in gradients:
                gradient.mul_(params.grad_clip_norm / norm)
            clipped = params.grad_clip_norm
        adamw_step(tensors, gradients, self._moments, params)
        rate = params.learning_rate
        metrics = {"step": float(self.step), "learning_rate": rate, "lr": rate}
        return metrics | {"grad_norm": norm, "grad_norm_clipped": clipped}

    def _require_whole(self) -> None:
        if self._failure is not None:
            raise RuntimeError(
                f"optim_step: a forward_backward since the last step failed ({self._failure}); gradients cleared"
            )
        if not self._open:
            raise RuntimeError("optim_step: no gradient has been accumulated; call forward_backward first")

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as a PEFT folder."""
        self._adapter.save(folder)

    def save_state(self, folder: Path) -> None:
        """Write adapter, Adam moments and step count: the PEFT folder plus a safetensors and a JSON file beside it.

        Accumulated gradients are no part of it.
        """
        self._adapter.save(folder)
        write_tensors(self._moment_tensors(), folder / _MOMENTS_FILE)
        state = {"step": self.step, "base_model": self._base.name, "fingerprint": self._base.fingerprint}
        write_json(state, folder / _STATE_FILE)

    def _moment_tensors(self) -> dict[str, Tensor]:
        names, moments = list(self._adapter.tensors), self._moments
        first = zip(map(_FIRST.format, names), moments.first, strict=True)
        second = zip(map(_SECOND.format, names), moments.second, strict=True)
        return dict([*first, *second])

    def load_state(self, folder: Path, *, optimizer: bool) -> None:
        """Read what `save_state` wrote and drop accumulated gradients. Without `optimizer`: fresh moments, `step` 0.

        The adapter becomes the saved one, with its alpha and on its layers.

        Raises:
            RuntimeError: the folder holds an adapter of another base model or of another rank. Nothing has changed.
        """
        state = self._read_state(folder)
        config, tensors = self._adapter.read(folder)
        moments = _read_moments(folder / _MOMENTS_FILE, tensors) if optimizer else {}
        self._replace(config)
        self._adapter.assign(tensors)
        if optimizer:
            for name, tensor in self._moment_tensors().items():
                tensor.copy_(moments[name])
            self._moments.step = int(state["step"])

    def _read_state(self, folder: Path) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((folder / _STATE_FILE).read_text(encoding="utf-8"))
            fingerprint, name = state["fingerprint"], state["base_model"]
            int(state["step"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RuntimeError(f"load_state: {folder} holds no training state ({error})") from None
        if fingerprint != self._base.fingerprint:
            raise RuntimeError(
                f"load_state: {folder} was saved on the base model {name!r}, this is {self._base.name!r}"
            )
        return state


def _read_moments(path: Path, adapter: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The moments of an adapter with these tensors."""
    moments = read_tensors(path)
    shapes = {form.format(name): tensor.shape for form in (_FIRST, _SECOND) for name, tensor in adapter.items()}
    require_like(path, moments, shapes)
    return moments
