"""Loss, log-probabilities and gradient of a micro-batch in one pass over the head, needed positions chunk by chunk.

Each chunk's gradient is taken at once, so no array of the size positions times vocabulary outlives its chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from loops_sdk.local.engine.datums import Columns
from loops_sdk.local.engine.losses import Loss, Terms
from loops_sdk.local.engine.torch_engine.heads import Head, LowRank, chunks, target_logprobs

__all__ = ["Scorer"]


class Scorer:
    """Scores the targets of one micro-batch.

    Args:
        head, lora: what turns hidden states into scores.
        loss, settings: the formula and its settings.
        batch: the columns of the micro-batch.
        positions: for each value of the columns its row in the flat hidden states.
    """

    def __init__(
        self,
        head: Head,
        lora: LowRank | None,
        loss: Loss,
        settings: Mapping[str, Any],
        batch: Columns,
        positions: Tensor,
    ) -> None:
        device = positions.device
        self._head, self._lora, self._loss, self._settings, self._positions = head, lora, loss, settings, positions
        self._targets = torch.from_numpy(batch.targets).to(device)
        self._scale = torch.from_numpy(batch.scale).to(device)
        self._given = {name: torch.from_numpy(column.copy()).to(device) for name, column in batch.given.items()}
        self._live = torch.from_numpy(batch.live.nonzero()[0]).to(device)
        self._silent = torch.from_numpy((batch.kept & ~batch.live).nonzero()[0]).to(device)
        self._columns = {name: torch.zeros_like(self._scale) for name in ("logprobs", "loss", *loss.reports)}

    def forward(self, hidden: Tensor) -> None:
        """Score all kept positions of `hidden` (``[all positions, hidden]``)."""
        with torch.no_grad():
            for where in chunks(self._live):
                self._record(where, *self._terms(hidden[self._positions[where]], where), live=True)
        self._report_silent(hidden)

    def forward_backward(self, hidden: Tensor) -> None:
        """As `forward`; adds gradients to the head's adapter and to whatever `hidden` was computed from."""
        grad = torch.zeros_like(hidden) if hidden.requires_grad else None
        for where in chunks(self._live):
            rows = self._positions[where]
            part = hidden.detach()[rows].requires_grad_(grad is not None)
            logprobs, terms = self._terms(part, where)
            logprobs.backward(terms.gradient * self._scale[where])  # type: ignore[no-untyped-call]
            self._record(where, logprobs.detach(), terms, live=True)
            if grad is not None and part.grad is not None:
                grad[rows] = part.grad
        self._report_silent(hidden.detach())
        if grad is not None and self._live.numel():
            hidden.backward(grad)  # type: ignore[no-untyped-call]

    def columns(self) -> dict[str, Any]:
        """What was scored, as float32 arrays over the columns: ``logprobs``, ``loss`` and the loss's reports."""
        return {name: column.cpu().numpy() for name, column in self._columns.items()}

    def _report_silent(self, hidden: Tensor) -> None:
        """Positions whose weight or advantage is 0 still have a log-probability to tell, but no loss."""
        with torch.no_grad():
            for where in chunks(self._silent):
                self._record(where, *self._terms(hidden[self._positions[where]], where), live=False)

    def _terms(self, hidden: Tensor, where: Tensor) -> tuple[Tensor, Terms]:
        logprobs = target_logprobs(self._head.logits(hidden, self._lora), self._targets[where])
        given = {name: column[where] for name, column in self._given.items()}
        return logprobs, self._loss.terms(torch, logprobs.detach(), given, self._settings)

    def _record(self, where: Tensor, logprobs: Tensor, terms: Terms, *, live: bool) -> None:
        self._columns["logprobs"][where] = logprobs
        if live:
            self._columns["loss"][where] = terms.loss * self._scale[where]
        for name in self._loss.reports:
            self._columns[name][where] = getattr(terms, name).float()
