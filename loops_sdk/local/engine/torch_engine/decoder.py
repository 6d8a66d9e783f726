"""Passes through the model for generation: prompts into keys and values, one more token for a batch, prompt logprobs.

It knows tokens and tensors; requests, tickets and queues are others' business.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine.torch_engine.heads import chunks
from loops_sdk.local.engine.torch_engine.kv_cache import RowCache
from loops_sdk.local.engine.torch_engine.models import BaseModel, agree
from loops_sdk.local.engine.torch_engine.served import BASE, AdapterSwitch, ServedAdapter

__all__ = ["Decoder", "PromptLogprobs"]

PromptLogprobs = list[dict[int, tuple[float, int]] | None]


class Decoder:
    """Runs a base model with any of several adapters.

    Args:
        base: the model.

    Raises:
        InvalidInputError: an architecture that keeps something else than keys and values, or does not give the same
            numbers token by token as in one pass.
    """

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._switch = AdapterSwitch(base)
        self._require_keys_and_values()
        self._full_mask = True
        self._probe()

    def _require_keys_and_values(self) -> None:
        layers = DynamicCache(config=self._base.model.config).layers
        strange = {
            type(layer).__name__ for layer in layers if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer)
        }
        if strange:
            name = type(self._base.model).__name__
            raise InvalidInputError(f"base_model: {name} cannot be sampled from, it keeps {', '.join(sorted(strange))}")
        # A ready-made mask saves the model its own bookkeeping, but says nothing of windows.
        self._plain_attention = all(type(layer) is DynamicLayer for layer in layers)

    def _probe(self) -> None:
        """Two rows of unequal length, one token past their prompts, against one pass; with each mask that may fit."""
        tokens = [[t % self._base.limits.vocab_size for t in range(1, 1 + size)] for size in (6, 4)]
        wanted = torch.stack([self.prefill([row], BASE)[0][0, len(row) - 1] for row in tokens])
        trouble: Exception | None = None
        for full in self._masks():
            self._full_mask = full
            try:
                if agree(wanted, self._probed(tokens)):
                    return
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                trouble = error  # this architecture reads masks or positions in another way
        name = type(self._base.model).__name__
        detail = "it gives other numbers" if trouble is None else f"it fails ({trouble})"
        raise InvalidInputError(f"base_model: {name} cannot be sampled from, token by token {detail}") from trouble

    def _masks(self) -> tuple[bool, ...]:
        """Whether to hand over a ready-made mask, best first; additive masks and windows are left to the model."""
        sdpa = self._base.model.config._attn_implementation == "sdpa"
        return (True, False) if self._plain_attention and sdpa else (False,)

    def _probed(self, tokens: list[list[int]]) -> Tensor:
        _, prefilled = self.prefill([row[:-1] for row in tokens], BASE)
        cache = RowCache()
        cache.join(prefilled, [(index, len(row) - 1, 1) for index, row in enumerate(tokens)])
        return self._hidden([row[-1] for row in tokens], [len(row) - 1 for row in tokens], cache)

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]], adapter: ServedAdapter) -> tuple[Tensor, DynamicCache]:
        """Hidden states ``[prompts, longest, hidden]`` and the cache of prompts padded on the right."""
        width = max(map(len, prompts))
        tokens = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=self._base.device)
        cache = DynamicCache()
        with self._switch.using(adapter):
            output = self._base.backbone(input_ids=tokens, past_key_values=cache, use_cache=True)
        hidden: Tensor = output.last_hidden_state
        return hidden, cache

    @torch.inference_mode()
    def decode(self, tokens: list[int], lengths: list[int], cache: RowCache, adapter: ServedAdapter) -> Tensor:
        """Scores ``[rows, vocabulary]`` after one more token per row; `lengths` counts the tokens before it."""
        with self._switch.using(adapter):
            hidden = self._hidden(tokens, lengths, cache)
        return self.scores(hidden, adapter)

    @torch.inference_mode()
    def _hidden(self, tokens: list[int], lengths: list[int], cache: RowCache) -> Tensor:
        cache.prepare()
        device = self._base.device
        mask = cache.mask(device)
        output = self._base.backbone(
            input_ids=torch.tensor(tokens, device=device)[:, None],
            attention_mask=mask[:, None, None] if mask is not None and self._full_mask else mask,
            position_ids=torch.tensor(lengths, device=device)[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        cache.advance()
        hidden: Tensor = output.last_hidden_state[:, -1]
        return hidden

    @torch.inference_mode()
    def scores(self, hidden: Tensor, adapter: ServedAdapter) -> Tensor:
        """Scores ``[positions, vocabulary]`` in float32 of hidden states ``[positions, hidden]``."""
        return self._base.head.logits(hidden, adapter.pairs.get(self._base.head.path))

    @torch.inference_mode()
    def prompt_logprobs(
        self, hidden: Tensor, prompt: Sequence[int], top: int, adapter: ServedAdapter
    ) -> PromptLogprobs:
        """Log-probability and rank of each prompt token given those before it, and of the `top` most probable ones."""
        result: PromptLogprobs = [None]
        targets = torch.tensor(list(prompt[1:]), device=hidden.device)
        for where in chunks(torch.arange(len(prompt) - 1, device=hidden.device)):
            result += _ranked(self.scores(hidden[where], adapter), targets[where], top)
        return result


def _ranked(scores: Tensor, targets: Tensor, top: int) -> PromptLogprobs:
    total = scores.logsumexp(-1, keepdim=True)
    own = scores.gather(-1, targets[:, None])
    ranks = (scores > own).sum(-1) + 1
    best, ids = scores.topk(min(top, scores.shape[-1]), -1)
    columns = (targets, (own - total).squeeze(-1), ranks, ids, best - total)
    result: PromptLogprobs = []
    for token, logprob, rank, others, values in zip(*(column.tolist() for column in columns), strict=True):
        entry = {other: (value, place) for place, (other, value) in enumerate(zip(others, values, strict=True), 1)}
        result.append(entry | {token: (logprob, rank)})
    return result
