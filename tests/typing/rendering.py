"""Read by the type checkers, never run: conversations and episodes; a wrong line carries the ignore of both."""

from __future__ import annotations

from typing import assert_type

import loops_sdk
import loops_sdk_sync
from loops_sdk_sync import Datum, ModelInput, Renderer, Rollout, group_advantages


def right(training: loops_sdk_sync.TrainingClient, result: loops_sdk.SampleResult) -> None:
    renderer = Renderer(training.get_tokenizer())
    assert_type(loops_sdk.Renderer(training.get_tokenizer()), loops_sdk_sync.Renderer)
    messages = [{"role": "user", "content": "Hello!"}]
    assert_type(renderer.prompt(messages), ModelInput)
    assert_type(renderer.datum(messages, train_on="last", tools=[{"type": "function"}]), Datum)
    assert_type(renderer.message(result.sequences[0].tokens), dict[str, str])
    renderer.prompt([*messages, renderer.message([1, 2])], tools=[right])
    rollout = Rollout(renderer.prompt(messages))
    rollout.sampled(result.sequences[0])
    rollout.observed(renderer.observation(messages, tools=[{"type": "function"}]))
    assert_type(rollout.prompt, ModelInput)
    for advantage in group_advantages([True, False], normalize=True):
        assert_type(rollout.datum(advantage), Datum)


def wrong(renderer: Renderer, rollout: Rollout, result: loops_sdk.SampleResult) -> None:
    Renderer("Qwen/Qwen3-8B")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    renderer.prompt("Hello!")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    renderer.datum([], train_on="first")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rollout.sampled(result)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rollout.prompt = [1]  # type: ignore[misc,assignment]  # pyright: ignore[reportAttributeAccessIssue]
    group_advantages(1.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
