"""A `TrainingEngine` without torch, for checking data and the shape of a training loop in seconds.

Its model is the uniform distribution: every target has log-probability ``-log(vocab_size)``. Losses follow from that
by the real formulas; nothing is learned and no weights exist, so saving them is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from loops_sdk.local.engine import datums, losses
from loops_sdk.local.engine.protocol import AdapterConfig
from loops_sdk.local.engine.results import Results
from loops_sdk.types import AdamParams, Datum, ForwardBackwardOutput, OptimStepResponse

__all__ = ["DryTrainingEngine"]

_STATE_FILE = "dry_state.json"


class DryTrainingEngine:
    """Checks and counts, and computes losses of the uniform model.

    Args:
        vocab_size: number of token ids.
        max_seq_len: longest sequence in tokens.
    """

    def __init__(self, *, vocab_size: int, max_seq_len: int) -> None:
        self._limits = datums.Limits(max_seq_len, vocab_size, vocab_size)
        self.init_adapter(AdapterConfig())

    @property
    def max_seq_len(self) -> int:
        """Longest sequence, in tokens."""
        return self._limits.max_seq_len

    @property
    def step(self) -> int:
        """Number of optimizer steps since `init_adapter`."""
        return self._step

    @property
    def adapter_config(self) -> Mapping[str, Any]:
        """Rank and alpha of the adapter that a real engine would have. There are no layers to name."""
        return {"peft_type": "LORA", "r": self._config.lora_rank, "lora_alpha": self._config.lora_alpha}

    def init_adapter(self, config: AdapterConfig) -> None:
        """Start over at step 0."""
        self._config, self._step = config, 0
        self._clear()

    def _clear(self) -> None:
        self._accumulated, self._failure = 0, ""

    def check(self, data: Sequence[Datum], loss_fn: str, loss_fn_config: Mapping[str, Any] | None) -> None:
        """Refuse exactly what a real engine refuses for a model of these sizes."""
        datums.check(data, loss_fn, loss_fn_config, self._limits)

    def forward(
        self, data: Sequence[Datum], loss_fn: str, loss_fn_config: Mapping[str, Any] | None
    ) -> ForwardBackwardOutput:
        """Loss and logprobs of the uniform model."""
        self.check(data, loss_fn, loss_fn_config)
        settings = losses.settings(loss_fn, loss_fn_config)
        results = Results(len(data), losses.LOSSES[loss_fn].reports)
        for index, datum in enumerate(data):
            batch = datums.columns([datum], loss_fn, settings)
            results.add([index], [batch.tokens.size], batch, self._score(batch, loss_fn, settings))
        return results.output()

    def _score(self, batch: datums.Columns, loss_fn: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        uniform = np.float32(-math.log(self._limits.num_outputs))
        logprobs = np.where(batch.kept, uniform, np.float32(0))
        with np.errstate(all="ignore"):  # formulas may overflow where nothing is live; those positions are dropped
            terms = losses.LOSSES[loss_fn].terms(np, logprobs, batch.given, settings)
            loss = np.where(batch.live, terms.loss * batch.scale, np.float32(0))
        reports: dict[str, Any] = {name: getattr(terms, name) for name in losses.LOSSES[loss_fn].reports}
        return {"logprobs": logprobs, "loss": loss, **reports}

    def forward_backward(
        self, data: Sequence[Datum], loss_fn: str, loss_fn_config: Mapping[str, Any] | None
    ) -> ForwardBackwardOutput:
        """As `forward`, and the next `optim_step` has something to apply."""
        output = self.forward(data, loss_fn, loss_fn_config)
        self._accumulated += len(data)
        return output

    def poison(self, reason: str) -> None:
        """Make the next `optim_step` refuse and name `reason`, or the first of several."""
        self._failure = self._failure or reason

    def optim_step(self, params: AdamParams) -> OptimStepResponse:
        """Count one step. The gradient norm is 0, because there are no weights.

        Raises:
            RuntimeError: no `forward_backward` since the last step, or the engine has been poisoned since.
        """
        accumulated, failure = self._accumulated, self._failure
        self._clear()
        if failure:
            raise RuntimeError(f"optim_step: a forward_backward since the last step failed ({failure})")
        if not accumulated:
            raise RuntimeError("optim_step: no gradient has been accumulated; call forward_backward first")
        self._step += 1
        rate = params.learning_rate
        metrics = {"step": float(self._step), "learning_rate": rate, "lr": rate, "grad_norm": 0.0}
        return OptimStepResponse({**metrics, "grad_norm_clipped": 0.0})

    def save_adapter(self, folder: Path) -> None:
        """Refused.

        Raises:
            RuntimeError: always: there are no weights.
        """
        raise RuntimeError("save_adapter: the dry engine has no weights to publish; run with a base model instead")

    def save_state(self, folder: Path) -> None:
        """Write the step count and the adapter's configuration as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {"step": self._step, "adapter": attrs.asdict(self._config)}
        (folder / _STATE_FILE).write_text(json.dumps(state), encoding="utf-8")

    def load_state(self, folder: Path, *, optimizer: bool) -> None:
        """Read what `save_state` wrote, the adapter's configuration too; without `optimizer` the step count is 0.

        Raises:
            RuntimeError: the folder was not written by this engine, or for another rank.
        """
        try:
            state = json.loads((folder / _STATE_FILE).read_text(encoding="utf-8"))
            saved = AdapterConfig(**state["adapter"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RuntimeError(f"load_state: {folder} holds no state of the dry engine ({error})") from None
        if saved.lora_rank != self._config.lora_rank:
            raise RuntimeError(
                f"load_state: saved with rank {saved.lora_rank}, this adapter has {self._config.lora_rank}"
            )
        self.init_adapter(saved)
        self._step = int(state["step"]) if optimizer else 0
