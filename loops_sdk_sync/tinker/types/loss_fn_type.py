"""Losses by name, and what goes into and comes out of them."""

from __future__ import annotations

from typing import Literal, TypeAlias

from loops_sdk_sync.tinker.types._model import StrictModel
from loops_sdk_sync.tinker.types.tensor_data import TensorData

__all__ = ["CustomLossInput", "CustomLossInputRank", "LossFnInputs", "LossFnOutput", "LossFnType"]

#: The losses of the original. The clients refuse by name those that Loops does not know.
LossFnType: TypeAlias = Literal[
    "cross_entropy", "importance_sampling", "ppo", "cispo", "dro", "gspo", "stable_reinforce", "custom"
]

#: What a loss reads from one datum, by name.
LossFnInputs: TypeAlias = dict[str, TensorData]

#: What a loss says of one datum, by name.
LossFnOutput: TypeAlias = dict[str, TensorData]

#: Number of dimensions of an input: 0 is a number, 1 one value per position, 2 several.
CustomLossInputRank: TypeAlias = Literal[0, 1, 2]


class CustomLossInput(StrictModel):
    """An input of a loss of your own.

    Args:
        name: ``"logprobs"``, or its name in `loss_fn_inputs`.
        rank: its number of dimensions in every datum.
    """

    name: str
    rank: CustomLossInputRank
