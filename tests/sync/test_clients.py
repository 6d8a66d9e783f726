"""The three generated clients against real servers: both forms, from threads, loops and processes, to the very end."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import re
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import pytest

import loops_sdk
import loops_sdk_sync
from loops_sdk.local import LocalStack
from loops_sdk_sync import (
    AdamParams,
    ClientClosedError,
    ConnectionFailedError,
    Datum,
    Future,
    InvalidInputError,
    LocalDeployment,
    ModelInput,
    SamplingClient,
    SamplingParams,
    ServiceClient,
    TensorData,
    TrainingClient,
    UnsupportedError,
    WandbConfig,
    attach_reference_logprobs,
    attach_reference_logprobs_async,
)
from loops_sdk_sync._portal import portal

from .conftest import MODEL

CLIENTS = ["ServiceClient", "TrainingClient", "SamplingClient"]
ADAM = AdamParams(learning_rate=0.1)


@pytest.fixture(scope="module")
def training(stack: LocalStack) -> Iterator[TrainingClient]:
    with ServiceClient() as service:
        yield service.create_lora_training_client(MODEL, rank=4, with_sampler=True)


@pytest.fixture
def datum() -> Datum:
    targets = TensorData(data=[3, 4, 5], dtype="int64", shape=[3])
    return Datum(model_input=ModelInput.from_ints([1, 3, 4]), loss_fn_inputs={"target_tokens": targets})


# ------------------------------------------------------------------ shape


def test_the_front_door_shows_all_that_the_core_shows() -> None:
    assert set(loops_sdk_sync.__all__) == {*loops_sdk.__all__, "Future", "attach_reference_logprobs"}
    ours = {*CLIENTS, "OperationFuture", "ComposedFuture", "ForwardBackwardFuture", "attach_reference_logprobs_async"}
    for name in set(loops_sdk.__all__) - ours:
        assert getattr(loops_sdk_sync, name) is getattr(loops_sdk, name)


@pytest.mark.parametrize("client", CLIENTS)
def test_every_call_is_there_in_both_forms(client: str) -> None:
    core, facade = getattr(loops_sdk, client), getattr(loops_sdk_sync, client)
    for name, method in inspect.getmembers(core, inspect.iscoroutinefunction):
        if name.startswith("_") or name == "open_async":
            continue
        wanted = inspect.signature(method)
        assert inspect.iscoroutinefunction(getattr(facade, name))
        assert inspect.signature(getattr(facade, name)) == wanted
        blocking = getattr(facade, {"aclose": "close"}.get(name, name.removesuffix("_async")))
        function = blocking.fget if isinstance(blocking, property) else blocking
        assert not inspect.iscoroutinefunction(function)
        assert inspect.signature(function) == wanted
    assert inspect.signature(core) == inspect.signature(facade)


PASS = {"loss_fn": "cross_entropy", "loss_fn_config": None}
PAGE = {"page_size": 1000, "page_token": 0}
LATER = {"timeout": 600.0, "ready_timeout": 3600.0, "wandb_config": None}
DEFAULTS: dict[str, dict[str, Any]] = {
    "ServiceClient.__init__": {"training_project_id": None, "api_key": None, "base_url": None},
    "ServiceClient.create_lora_training_client": {"rank": 32, "seed": None, **LATER},
    "ServiceClient.create_training_client_from_state": LATER,
    "ServiceClient.create_training_client_from_state_with_optimizer": LATER,
    "ServiceClient.get_checkpoint_archive_url": PAGE,
    "TrainingClient.forward_backward": PASS,
    "TrainingClient.forward": PASS,
    "TrainingClient.save_state": {"ttl_seconds": None},
    "TrainingClient.save_weights_for_sampler": {"ttl_seconds": None},
    "TrainingClient.get_checkpoint_archive_url": PAGE,
    "SamplingClient.__init__": {"api_key": None, "sampler_id": None, "session_id": None, "checkpoint_path": None},
    "SamplingClient.sample": {
        "num_samples": 1,
        "sampling_params": None,
        "include_prompt_logprobs": False,
        "topk_prompt_logprobs": 0,
        "affinity_key": None,
    },
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_documented_defaults(name: str) -> None:
    client, _, method = name.partition(".")
    core = method if method == "__init__" else f"{method}_async"
    for package, call in ((loops_sdk, core), (loops_sdk_sync, method), (loops_sdk_sync, core)):
        parameters = inspect.signature(getattr(getattr(package, client), call)).parameters
        assert {given: parameters[given].default for given in DEFAULTS[name]} == DEFAULTS[name]


# ------------------------------------------------------------------ calls


def test_a_run_as_documented(training: TrainingClient, datum: Datum) -> None:
    before = training.policy_version
    first = training.forward_backward(data=[datum]).result(timeout=60.0)
    training.optim_step(ADAM).result(timeout=60.0)
    assert training.forward([datum]).result().loss < first.loss
    assert training.policy_version == before + 1
    saved = training.save_weights_for_sampler(name="step-1").result(timeout=60.0)
    sampling = training.create_sampling_client(model_path=saved.path)
    assert isinstance(sampling, SamplingClient)
    result = sampling.sample(ModelInput.from_ints([1, 2]), sampling_params=SamplingParams(max_tokens=3, seed=1))
    assert len(result.sequences) == 1
    assert "step-1" in [checkpoint.checkpoint_id for checkpoint in training.list_checkpoints()]
    assert training.get_info().lora_rank == 4
    assert training.run_id
    training.health()


def test_a_sampler_of_its_own_and_what_is_offered(training: TrainingClient) -> None:
    with ServiceClient(reuse_from_run_id=training.run_id) as service:
        (offered,) = service.get_server_capabilities(model=MODEL).supported_models
        assert offered.model_name == MODEL
        assert training.get_info().max_seq_len == offered.max_enabled_seq_len
        sampling = service.create_sampling_client(MODEL)
        assert isinstance(sampling, SamplingClient)
        assert len(sampling.sample([1, 2], sampling_params=SamplingParams(max_tokens=3)).sequences) == 1
        with pytest.raises(NotImplementedError, match=r"^model_path: "):
            service.create_sampling_client(MODEL, "bt://loops:r/sampler_weights/a")


def test_a_local_client_attaches_to_the_same_trainer(training: TrainingClient, datum: Datum) -> None:
    trainer_url = training._core._channel.url
    found = re.search(r" at (http://[^ ,]+)", repr(training.save_weights_and_get_sampling_client("here").result(60.0)))
    sampler_url = found[1] if found else None
    with ServiceClient.local(trainer_url=trainer_url, sampler_url=sampler_url) as local:
        assert isinstance(local, ServiceClient)
        with pytest.raises(InvalidInputError, match=r"^rank: asked for 32, but the trainer .* has 4"):
            local.create_lora_training_client(MODEL)
        attached = local.create_lora_training_client(MODEL, rank=4)
        assert attached.run_id == training.run_id
        assert attached.get_info() == training.get_info()
        step = attached.policy_version
        attached.forward_backward([datum])
        assert attached.optim_step(ADAM).result(timeout=60.0).metrics["step"] == step + 1 == training.policy_version
        pinned = attached.save_weights_and_get_sampling_client("local").result(timeout=60.0)
        assert (pinned.sample([1, 2]).policy_version or 0) >= step + 1
        assert local.create_sampling_client(MODEL).sample([1, 2]).sequences
        path = attached.save_state("local").result(timeout=60.0).path
        assert local.create_training_client_from_state_with_optimizer(path).policy_version == step + 1
        with pytest.raises(UnsupportedError, match="there is no control plane"):
            local.list_checkpoints("r")
        with pytest.raises(loops_sdk_sync.LoopsError, match=r"^session_id: there is no session"):
            _ = local.session_id


def test_training_goes_on_in_another_run(training: TrainingClient, datum: Datum) -> None:
    training.forward_backward([datum])
    step = int(training.optim_step(ADAM).result(timeout=60.0).metrics["step"])
    path = training.save_state("on").result(timeout=60.0).path
    assert training.load_state_with_optimizer(path).result(timeout=60.0).policy_version == step
    with ServiceClient() as service:
        resumed = service.create_training_client_from_state_with_optimizer(path)
        assert isinstance(resumed, TrainingClient)
        assert resumed.policy_version == step
        assert resumed.load_state(path).result(timeout=60.0).path == path
        assert resumed.last_policy_version == 0


def squared(data: list[Datum], logprobs: list[Any]) -> tuple[float, list[Any], dict[str, float]]:
    """A loss with its gradient by hand, for engines without torch."""
    return (
        sum(float((values**2).sum()) for values in logprobs),
        [2 * values for values in logprobs],
        {"datums": len(data)},
    )


def test_a_loss_of_ones_own(training: TrainingClient, datum: Datum) -> None:
    start = training.policy_version
    passes = []
    for _ in range(3):
        passes.append(training.forward_backward_custom([datum], squared, autograd=False))
        training.optim_step(ADAM)
    results = [passed.result(timeout=60.0) for passed in passes]
    assert results[0].loss > results[1].loss > results[2].loss > 0
    assert results[0].metrics["datums"] == 1.0
    assert training.policy_version == start + 3
    later = asyncio.run(_accepted(training, datum))
    assert later.result(timeout=60.0).loss < results[2].loss


async def _accepted(training: TrainingClient, datum: Datum) -> Future[loops_sdk.ForwardBackwardOutput]:
    return await training.forward_backward_custom_async([datum], squared, autograd=False)


def test_a_loss_that_calls_its_own_trainer_is_told_so(training: TrainingClient, datum: Datum) -> None:
    def loss_fn(data: list[Datum], _logprobs: list[Any]) -> Any:
        return training.forward(data).result(timeout=20.0)

    with pytest.raises(loops_sdk.LoopsError, match="the loss function calls the trainer that waits for it"):
        training.forward_backward_custom([datum], loss_fn, autograd=False)
    training.forward([datum]).result(timeout=60.0)


def test_reference_logprobs_in_both_forms(training: TrainingClient, datum: Datum) -> None:
    sampling = training.save_weights_and_get_sampling_client("reference").result(timeout=60.0)
    (of_sampler,) = attach_reference_logprobs([datum], sampling)
    (of_trainer,) = asyncio.run(attach_reference_logprobs_async([datum], training))
    logprobs = of_sampler.loss_fn_inputs["reference_logprobs"]
    assert logprobs.tolist() == pytest.approx(of_trainer.loss_fn_inputs["reference_logprobs"].tolist(), abs=1e-5)
    assert logprobs.tolist() == pytest.approx(
        training.forward([datum]).result(timeout=60.0).loss_fn_outputs[0]["logprobs"].tolist(), abs=1e-5
    )
    for wrong in (training._core, "training"):
        with pytest.raises(InvalidInputError, match="expected SamplingClient or TrainingClient of loops_sdk_sync"):
            attach_reference_logprobs([datum], wrong)  # type: ignore[arg-type]


def test_the_same_on_any_event_loop(training: TrainingClient, datum: Datum) -> None:
    async def run() -> float:
        accepted = await training.forward_backward_async([datum])
        step = await training.optim_step_async(ADAM)
        assert isinstance(accepted, Future)
        assert (await step).metrics["step"] == await training.policy_version_async()
        return (await accepted).loss

    for _ in range(2):
        assert asyncio.run(run()) > 0


async def test_blocking_calls_work_inside_a_running_loop(training: TrainingClient, datum: Datum) -> None:
    assert training.forward([datum]).result(60.0).loss == (await training.forward([datum])).loss


def test_a_pinned_client_comes_wrapped_out_of_its_future(training: TrainingClient) -> None:
    future = training.save_weights_and_get_sampling_client("pinned")
    sampling = future.result(timeout=60.0)
    assert isinstance(sampling, SamplingClient)
    assert sampling is future.result()
    assert sampling.min_policy_version == training.policy_version
    assert len(sampling.compute_logprobs([1, 2, 3])) == 3


def test_threads_keep_the_order_in_which_they_call(training: TrainingClient, datum: Datum) -> None:
    order = threading.Lock()
    steps: list[Future[loops_sdk.OptimStepResponse]] = []

    def work() -> None:
        for _ in range(5):
            with order:
                training.forward_backward([datum])
                steps.append(training.optim_step(ADAM))

    start = training.policy_version
    with futures.ThreadPoolExecutor(8) as pool:
        for worker in [pool.submit(work) for _ in range(8)]:
            worker.result(60)
    seen = [step.result(60.0).metrics["step"] for step in reversed(steps)]
    assert seen == list(range(start + 40, start, -1))


def test_wrong_input_is_refused_at_the_call(training: TrainingClient) -> None:
    with pytest.raises(InvalidInputError, match="data: expected at least one Datum"):
        training.forward_backward([])


# ------------------------------------------------------------------ beginning and end


def test_the_constructor_opens_the_session(stack: LocalStack) -> None:
    with ServiceClient() as service:
        assert service.session_id
        assert "session=" in repr(service)


def test_a_session_that_does_not_open_leaves_nothing() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        kept = set(portal()._kept)
        with pytest.raises(ConnectionFailedError, match="no server answers"):
            ServiceClient(api_key="k", base_url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert set(portal()._kept) <= kept  # older clients may have been collected meanwhile


def test_a_closed_client_refuses(stack: LocalStack, datum: Datum) -> None:
    with ServiceClient() as service:
        training = service.create_lora_training_client(MODEL)
    service.close()
    with pytest.raises(ClientClosedError):
        training.forward([datum])


async def test_async_with_closes_too(stack: LocalStack) -> None:
    async with ServiceClient() as service:
        assert service.session_id
    with pytest.raises(ClientClosedError):
        service.list_checkpoints("run")


async def test_aclose_closes_all_three(stack: LocalStack, datum: Datum) -> None:
    async with ServiceClient() as service:
        training = await service.create_lora_training_client_async(MODEL, with_sampler=True)
        sampling = await (await training.save_weights_and_get_sampling_client_async("a"))
        assert (await sampling.sample_async([1, 2])).sequences
        await sampling.aclose()
        with pytest.raises(ClientClosedError):
            await sampling.sample_async([1, 2])
        await training.aclose()
        with pytest.raises(ClientClosedError):
            training.forward([datum])
        assert await service.list_checkpoints_async(str(training.run_id))
        await service.aclose()
        with pytest.raises(ClientClosedError):
            service.create_lora_training_client(MODEL)


def test_closing_a_sampler() -> None:
    sampling = SamplingClient(base_model=MODEL, deployment=LocalDeployment("http://127.0.0.1:9"), api_key="k")
    sampling.ensure_ready()
    for _ in range(2):
        sampling.close()
    for call in (sampling.ensure_ready, sampling.get_base_model_id, sampling.get_adapter_id):
        with pytest.raises(ClientClosedError):
            call()


def test_a_client_closes_when_nobody_can_reach_it(stack: LocalStack, datum: Datum) -> None:
    service = ServiceClient()
    core = service._core
    seen = weakref.ref(service)
    future = service.create_lora_training_client(MODEL).forward([datum])
    del service
    gc.collect()
    assert seen() is not None, "the future holds on to its client, and that to the service"
    assert future.result(60.0).loss > 0
    del future
    gc.collect()
    assert seen() is None
    portal().call(asyncio.sleep, 0)  # behind the closing
    with pytest.raises(ClientClosedError):
        portal().call(core.open_async)


# ------------------------------------------------------------------ whole processes

SCRIPT = """
import os, sys
from loops_sdk_sync import AdamParams, Datum, ModelInput, ServiceClient, LoopsError
service = ServiceClient()
training = service.create_lora_training_client("double/model")
datum = Datum(ModelInput.from_ints([1, 2]), {})
print(training.forward([datum]).result().loss > 0, flush=True)
"""


def run(code: str) -> tuple[int, str, str]:
    """A process of its own, where any warning is an error that shows."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_script_that_closes_nothing_ends_silently(stack: LocalStack) -> None:
    assert run("training.forward([datum])") == (0, "True\n", "")


def test_a_script_that_fails_ends_with_its_own_error_only(stack: LocalStack) -> None:
    status, out, err = run("raise SystemExit(5)")
    assert (status, out, err) == (5, "True\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_the_child_makes_clients_of_its_own(stack: LocalStack) -> None:
    code = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of any fork beside threads
child = os.fork()
if child == 0:
    try:
        training.forward([datum])
    except LoopsError as error:
        print("before os.fork()" in str(error), flush=True)
    with ServiceClient() as mine:
        print(mine.session_id != service.session_id, flush=True)
    del service, training
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
print(training.forward([datum]).result().loss > 0)
"""
    assert run(code) == (0, "True\nTrue\nTrue\n0\nTrue\n", "")


# ------------------------------------------------------------------ Weights & Biases


class Wandb:
    """The module and its run in one, as far as they are used."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.finished = threading.Event()

    def init(self, **_options: object) -> Wandb:
        return self

    def define_metric(self, *_names: str, **_options: str) -> None: ...

    def log(self, row: dict[str, float]) -> None:
        assert not self.finished.is_set()
        self.rows.append(row)

    def finish(self) -> None:
        self.finished.set()


def test_closing_finishes_the_curves(stack: LocalStack, datum: Datum, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # type: ignore[arg-type]
    with ServiceClient() as service:
        training = service.create_lora_training_client(MODEL, 4, None, 600.0, 3600.0, WandbConfig("curves"))
        steps = [(training.forward_backward([datum]), training.optim_step(ADAM)) for _ in range(3)]
        losses = [passed.result(timeout=60).loss for passed, _ in steps]
        assert [stepped.result(timeout=60).metrics["step"] for _, stepped in steps] == [1, 2, 3]
        training.close()
        assert wandb.finished.is_set()
    # A pass whose result is overtaken by that of its step draws the step's row again, in full.
    rows = {row["optimizer_step"]: row for row in wandb.rows}
    assert [(step, row["loss"], row["tokens"]) for step, row in rows.items()] == [
        (step, pytest.approx(loss), 3) for step, loss in enumerate(losses, 1)
    ]
    assert all(row["optim_step/grad_norm"] > 0 and row["learning_rate"] == 0.1 for row in rows.values())
