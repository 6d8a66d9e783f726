"""Sampling from worker processes: a client goes there in a pickle, or over a fork, and opens connections of its own."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

import loops_sdk
from loops_sdk.local import LocalStack
from loops_sdk_sync import (
    AdamParams,
    ClientClosedError,
    Datum,
    InvalidInputError,
    LocalDeployment,
    SamplingClient,
    ServiceClient,
    TrainingClient,
)

from .conftest import MODEL

DOUBLES = Path(__file__).parent / "doubles"
SPAWN = multiprocessing.get_context("spawn")
PROMPT = [1, 2, 3]


@pytest.fixture(scope="module")
def worker(doubles_can_be_imported: pytest.MonkeyPatch) -> Any:
    """The module of the workers, which children can import, too."""
    doubles_can_be_imported.syspath_prepend(str(DOUBLES))
    import double_worker

    return double_worker


@pytest.fixture(scope="module")
def training(stack: LocalStack) -> Iterator[TrainingClient]:
    with ServiceClient() as service:
        training = service.create_lora_training_client(MODEL, rank=4, with_sampler=True)
        training.forward_backward([Datum(PROMPT, {"target_tokens": PROMPT})])
        training.optim_step(AdamParams(learning_rate=0.1))
        yield training


@pytest.fixture(scope="module")
def pinned(training: TrainingClient) -> SamplingClient:
    return training.save_weights_and_get_sampling_client("for-workers").result(timeout=60)


# ---------------------------------------------------------------- real processes


def test_a_pool_of_processes(pinned: SamplingClient, worker: Any) -> None:
    here = worker.sample(pinned, PROMPT)[1]
    with futures.ProcessPoolExecutor(2, mp_context=SPAWN) as pool:
        calls = [pool.submit(worker.sample, pinned, PROMPT) for _ in range(6)]
        results = [call.result(timeout=60) for call in calls]
    assert os.getpid() not in {pid for pid, _ in results}
    assert [(one.policy_version, one.sequences) for _, one in results] == [(1, here.sequences)] * 6


def test_a_process_of_its_own(pinned: SamplingClient, worker: Any) -> None:
    results = SPAWN.Queue()
    process = SPAWN.Process(target=worker.put, args=(results, pinned, PROMPT))
    process.start()
    pid, result = results.get(timeout=60)
    process.join(60)
    assert (process.exitcode, pid) == (0, process.pid)
    assert result.policy_version == 1


def test_clients_of_the_core_too(pinned: SamplingClient, worker: Any) -> None:
    assert type(pinned._core) is loops_sdk.SamplingClient
    with futures.ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        _, result = pool.submit(worker.sample_in_a_loop, pinned._core, PROMPT).result(timeout=60)
    assert result.policy_version == 1


def test_the_key_of_the_worker(
    pinned: SamplingClient, stack: LocalStack, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BASETEN_API_KEY")
    with futures.ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        with pytest.raises(InvalidInputError, match="BASETEN_API_KEY is not set"):
            pool.submit(worker.sample, pinned, PROMPT).result(timeout=60)
        assert stack.api_key.encode() not in pickle.dumps(pinned)
        monkeypatch.setenv("KEY_OF_THE_FARM", stack.api_key)
        deployment = LocalDeployment(pinned._core._binding.deployment.base_url)
        provided = SamplingClient(base_model=MODEL, deployment=deployment, api_key=worker.key)
        monkeypatch.delenv("KEY_OF_THE_FARM")
        with pytest.raises(KeyError, match="KEY_OF_THE_FARM"):
            pool.submit(worker.sample, provided, PROMPT).result(timeout=60)
    monkeypatch.setenv("KEY_OF_THE_FARM", stack.api_key)
    with futures.ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        assert pool.submit(worker.sample, provided, PROMPT).result(timeout=60)[1].policy_version == 1


FORKS = """
import multiprocessing, sys, warnings
from concurrent import futures

import double_worker
from loops_sdk_sync import AdamParams, ClientClosedError, ServiceClient

warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of any fork beside threads
fork = multiprocessing.get_context("fork")

service = ServiceClient()
training = service.create_lora_training_client("double/model", with_sampler=True)
pinned = training.save_weights_and_get_sampling_client("a").result(timeout=60)
print(pinned.sample([1]).policy_version, flush=True)

def inherited():
    print(pinned.sample([1]).policy_version, flush=True)  # nothing was pickled: it came over the fork
    try:
        training.health()
    except ClientClosedError as error:
        print("before os.fork()" in str(error), flush=True)

process = fork.Process(target=inherited)
process.start()
process.join(60)
print(process.exitcode, flush=True)
with futures.ProcessPoolExecutor(1, mp_context=fork) as pool:
    print(pool.submit(double_worker.sample, pinned, [1]).result(timeout=60)[1].policy_version, flush=True)
print(pinned.sample([1]).policy_version, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_are_forked(stack: LocalStack, worker: Any) -> None:
    path = os.pathsep.join([str(DOUBLES), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "error", "-c", FORKS]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n0\nTrue\n0\n0\n0\n", "")


# ---------------------------------------------------------------- copies in this process


def test_a_copy_ends_on_its_own(pinned: SamplingClient) -> None:
    copied = copy.copy(pinned)
    assert copied._core is not pinned._core
    assert (copied.base_model, copied.min_policy_version) == (pinned.base_model, pinned.min_policy_version)
    with copied:
        copied.sample(PROMPT)
    with pytest.raises(ClientClosedError):
        copied.sample(PROMPT)
    pinned.sample(PROMPT)


def test_a_copy_outlives_its_service(stack: LocalStack) -> None:
    with ServiceClient() as service:
        training = service.create_lora_training_client(MODEL, with_sampler=True)
        text = pickle.dumps(training.save_weights_and_get_sampling_client("a").result(timeout=60))
    with pickle.loads(text) as copied:
        assert copied.sample(PROMPT).policy_version == 0
        assert copied.get_adapter_id() is not None
        copied.ensure_ready()
    SamplingClient.wait_until_ready(LocalDeployment("http://127.0.0.1:9"))


def test_the_others_refuse(training: TrainingClient) -> None:
    with pytest.raises(TypeError, match="TrainingClient cannot be pickled"):
        pickle.dumps(training)
    with ServiceClient() as service, pytest.raises(TypeError, match="ServiceClient cannot be pickled"):
        pickle.dumps(service)
