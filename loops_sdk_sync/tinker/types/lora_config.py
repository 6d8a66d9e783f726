"""The adapter of a training client."""

from __future__ import annotations

from loops_sdk_sync.tinker.types._model import StrictModel

__all__ = ["LoraConfig"]


class LoraConfig(StrictModel):
    """A LoRA adapter.

    Args:
        rank: its rank.
        seed: seed that its weights are drawn from; `None` lets the trainer choose.
        train_unembed: whether the unembedding gets an adapter.
        train_mlp: whether the MLPs, experts included, get one.
        train_attn: whether attention gets one.
    """

    rank: int
    seed: int | None = None
    train_unembed: bool = True
    train_mlp: bool = True
    train_attn: bool = True
