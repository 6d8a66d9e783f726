"""Tokenizers: which one a name means, and that it is loaded once for all clients."""

from __future__ import annotations

import asyncio
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loops_sdk import SamplingClient, ServiceClient, TrainingClient
from loops_sdk._clients import tokenizers
from loops_sdk.instrumentation import Event, WaitFinished, WaitStarted

SENTENCE = "The ferry leaves every hour."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tokenizer that no other test has loaded."""
    monkeypatch.setattr(tokenizers, "_loaded", {})
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizers._SHIPPED["loops/tiny"] / file, tmp_path)
    return tmp_path


async def test_it_is_loaded_once(folder: Path, service: Any, sampling: Callable[..., SamplingClient]) -> None:
    async with TrainingClient(service.trainer, base_model=str(folder)) as training:
        first, second = await asyncio.gather(training.get_tokenizer_async(), training.get_tokenizer_async())
        assert first.decode(first.encode(SENTENCE)) == SENTENCE
        shutil.rmtree(folder)
        again = await sampling(base_model=str(folder)).get_tokenizer_async()
        assert first is second is again is await training.get_tokenizer_async()
    assert service.asked == []


async def test_the_model_that_ships_needs_no_hub(client: ServiceClient) -> None:
    training = await client.create_lora_training_client_async("loops/tiny")
    tokenizer = await training.get_tokenizer_async()
    assert tokenizer.decode(tokenizer.encode(SENTENCE)) == SENTENCE


async def test_the_first_time_is_told_as_a_wait(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "_loaded", {})
    heard: list[Event] = []
    async with ServiceClient(base_url=service.control, observers=[heard.append], progress=False) as client:
        training = await client.create_lora_training_client_async("loops/tiny")
        for _ in range(2):
            await training.get_tokenizer_async()
    told = [event for event in heard if event.operation == "get_tokenizer"]
    assert [type(event) for event in told] == [WaitStarted, WaitFinished]
    assert told[0].subject == "tokenizer of loops/tiny"


async def test_a_copy_that_has_no_connections_yet_opens_none_for_it(
    service: Any, sampling: Callable[..., SamplingClient], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled = pickle.dumps(sampling(base_model=str(folder)))
    monkeypatch.delenv("BASETEN_API_KEY")
    copy = pickle.loads(pickled)
    tokenizer = await copy.get_tokenizer_async()
    assert tokenizer.decode(tokenizer.encode(SENTENCE)) == SENTENCE
    await copy.aclose()
