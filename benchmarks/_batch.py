"""The batch of the large payloads: tokens, targets, weights, log-probabilities and advantages, as numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, Any]


def arrays(datums: int, length: int) -> list[Arrays]:
    """Per datum ``tokens`` and the inputs of a policy-gradient loss. The same for everybody who asks."""
    draw = np.random.default_rng(0)
    return [
        {
            "tokens": draw.integers(0, 150_000, length),
            "target_tokens": draw.integers(0, 150_000, length),
            "weights": draw.random(length, np.float32),
            "logprobs": -draw.exponential(size=length).astype(np.float32),
            "advantages": draw.normal(size=length).astype(np.float32),
        }
        for _ in range(datums)
    ]


def body(batch: list[Arrays]) -> dict[str, Any]:
    """The request of a pass, with bare arrays in it."""
    return {"data": [_datum(one) for one in batch], "loss_fn": "ppo"}


def _datum(one: Arrays) -> dict[str, Any]:
    tensors = {
        name: {"data": array, "dtype": array.dtype.name, "shape": list(array.shape)}
        for name, array in one.items()
        if name != "tokens"
    }
    chunk = {"type": "encoded_text", "tokens": one["tokens"]}
    return {"model_input": {"chunks": [chunk]}, "loss_fn_inputs": tensors}
