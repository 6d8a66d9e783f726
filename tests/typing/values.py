"""Read by the type checkers, never run: right uses of the values pass, each wrong one is refused on its own line.

A wrong line carries the ignore of both checkers; both are set to complain about an ignore that hides nothing.
"""

from __future__ import annotations

from typing import assert_type

import numpy as np

from loops_sdk.types import AdamParams, Datum, ModelInput, SampleResult, TensorData


def right(result: SampleResult) -> None:
    prompt = ModelInput.from_ints([1, 2, 3])
    datum = Datum(model_input=prompt, loss_fn_inputs={"target_tokens": np.zeros(3, dtype=np.int64)})
    assert_type(datum.model_input, ModelInput)
    assert_type(datum.loss_fn_inputs["target_tokens"], TensorData)
    assert_type(AdamParams(learning_rate=1e-4).learning_rate, float)
    assert_type(result.sequences[0].tokens, list[int])


def wrong(params: AdamParams) -> None:
    params.learning_rate = 1.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    ModelInput.from_ints()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AdamParams(rate=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
