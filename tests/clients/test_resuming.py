"""A process is gone; another one finds its run again and gets the results of what it had submitted."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from loops_sdk import (
    AdamParams,
    Datum,
    DeploymentFailedError,
    ForwardBackwardOutput,
    InvalidInputError,
    NotFoundError,
    OperationInfo,
    OperationTimeoutError,
    OptimStepResponse,
    RemoteOpError,
    ServiceClient,
    TrainingClient,
    UnknownRequestError,
    UnsupportedError,
)
from loops_sdk.local import LocalStack

DOUBLES = Path(__file__).parents[1] / "local" / "doubles"
DATA = [Datum([1, 2, 3], {"target_tokens": [2, 3, 4]})]


@pytest.fixture
async def stack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalStack]:
    monkeypatch.setenv("PYTHONPATH", str(DOUBLES))
    async with LocalStack("double/model", engine="double_engine") as made:
        yield made


def service_of(stack: LocalStack) -> ServiceClient:
    return ServiceClient(base_url=stack.base_url, api_key=stack.api_key)


@asynccontextmanager
async def run_of(stack: LocalStack) -> AsyncIterator[tuple[ServiceClient, TrainingClient]]:
    async with service_of(stack) as service:
        yield service, await service.create_lora_training_client_async("double/model", rank=4)


async def test_another_process_gets_the_results_of_one_that_was_killed(stack: LocalStack, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    script = f"""
        import asyncio, os, signal
        from loops_sdk import AdamParams, Datum, ServiceClient
        from loops_sdk.instrumentation import JsonlObserver

        async def main():
            with JsonlObserver({str(events)!r}) as observer:
                service = ServiceClient(observers=[observer])
                training = await service.create_lora_training_client_async("double/model", rank=4)
                for _ in range(3):
                    await training.forward_backward_async([Datum([1, 2, 3], {{"target_tokens": [2, 3, 4]}})])
                    await training.optim_step_async(AdamParams())
                print(training.run_id, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    child = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **stack.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == -9, child.stderr
    told = [json.loads(line) for line in events.read_text().splitlines()]
    submitted = [event for event in told if event["event"] == "OperationSubmitted"]
    assert [event["operation"] for event in submitted] == ["forward_backward", "optim_step"] * 3

    async with service_of(stack) as service:
        training = await service.attach_training_client_async(child.stdout.strip())
        futures = [
            await training.resume_operation_async(event["operation"], event["operation_id"], event["idempotency_key"])
            for event in submitted
        ]
        results = [await future for future in futures]
        assert [type(result) for result in results] == [ForwardBackwardOutput, OptimStepResponse] * 3
        assert [result.metrics["step"] for result in results[1::2]] == [1, 2, 3]
        assert await training.policy_version_async() == 3
        await training.forward_backward_async(DATA)
        assert (await (await training.optim_step_async(AdamParams()))).metrics["step"] == 4


async def test_what_an_error_carries_is_enough(stack: LocalStack) -> None:
    async with run_of(stack) as (_, training):
        passed = await training.forward_backward_async(DATA)
        expected = await passed
        error = OperationTimeoutError(
            "too slow", operation="forward_backward", operation_id=passed.operation_id, run_id=training.run_id
        )
    async with service_of(stack) as service:
        again = await service.attach_training_client_async(str(error.run_id))
        future = await again.resume_operation_async(str(error.operation), str(error.operation_id))
        assert (await future) == expected


async def test_nothing_is_made_and_nothing_is_reset(stack: LocalStack) -> None:
    async with run_of(stack) as (_, training):
        await (await training.forward_backward_async(DATA))
    async with service_of(stack) as service:
        again = await service.attach_training_client_async(str(training.run_id))
        assert attrs.asdict(again.get_info()) == {"base_model": "double/model", "lora_rank": 4, "max_seq_len": 64}
        assert (await (await again.optim_step_async(AdamParams()))).metrics["step"] == 1


async def test_what_cannot_be_attached_is_refused(stack: LocalStack) -> None:
    async with run_of(stack) as (service, training):
        run_id = str(training.run_id)
        with pytest.raises(NotFoundError):
            await service.attach_training_client_async("nosuchrun")
        with pytest.raises(InvalidInputError, match="rank: given 8, but the trainer has 4"):
            await service.attach_training_client_async(run_id, rank=8)
        with pytest.raises(InvalidInputError, match="run_id: expected"):
            await service.attach_training_client_async("../x")
        await service._way.control("test").deactivate_run(run_id)
        with pytest.raises(DeploymentFailedError, match="has ended") as caught:
            await service.attach_training_client_async(run_id)
        assert caught.value.run_id == run_id


async def test_unknown_operations_are_refused_by_name(stack: LocalStack) -> None:
    async with run_of(stack) as (_, training):
        with pytest.raises(InvalidInputError, match="operation: expected one of forward_backward"):
            await training.resume_operation_async("retrain", "x")
        future: Any = await training.resume_operation_async("optim_step", "f" * 32, "a-key")
        with pytest.raises(UnknownRequestError) as caught:
            await future
        assert (caught.value.operation_id, caught.value.idempotency_key) == ("f" * 32, "a-key")


async def test_a_client_without_a_control_plane_knows_no_runs(stack: LocalStack) -> None:
    async with run_of(stack) as (_, training):
        url = training._channel.url
        async with ServiceClient.local(trainer_url=url, sampler_url=None, api_key=stack.api_key) as local:
            with pytest.raises(UnsupportedError, match="attach_training_client: there is no control plane"):
                await local.attach_training_client_async("run7")


async def test_the_trainer_itself_tells_what_it_has_accepted(stack: LocalStack) -> None:
    async with run_of(stack) as (_, training):
        assert await training.list_operations_async() == []
        passed = await (fb := await training.forward_backward_async(DATA))
        await (await training.optim_step_async(AdamParams()))
        failing = await training.optim_step_async(AdamParams())
        with pytest.raises(RemoteOpError):
            await failing
        run_id = str(training.run_id)
    async with service_of(stack) as service:
        again = await service.attach_training_client_async(run_id)
        told = await again.list_operations_async()
        assert all(isinstance(one, OperationInfo) for one in told)
        assert [(one.operation, one.status) for one in told] == [
            ("forward_backward", "done"),
            ("optim_step", "done"),
            ("optim_step", "error"),
        ]
        assert (told[0].operation_id, told[0].idempotency_key) == (fb.operation_id, fb.idempotency_key)
        resumed = await again.resume_operation_async(told[0].operation, told[0].operation_id)
        assert (await resumed) == passed
