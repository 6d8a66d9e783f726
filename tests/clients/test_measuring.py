"""Curves of a training client: what is logged, what is worked out where somebody asks, and ``LOOPS_METRICS_DIR``."""

from __future__ import annotations

import asyncio
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from loops_sdk import AdamParams, ClientClosedError, Datum, InvalidInputError, ServiceClient, TensorData, WandbConfig
from loops_sdk._clients.comparing import Comparison
from loops_sdk._clients.measuring import Meter
from loops_sdk._clients.trainer_state import TrainerState
from loops_sdk.instrumentation import Event, MetricsLogged, MetricsObserver, OperationMeasured, read_metrics
from loops_sdk.types import ForwardBackwardOutput

DATUM = Datum([1, 2], {"target_tokens": [2, 3]})


def policy_datum(logprobs: list[float], **more: Any) -> Datum:
    targets = more.pop("target_tokens", [7] * len(logprobs))
    given = {"target_tokens": targets, "logprobs": logprobs, "advantages": [1.0] * len(logprobs), **more}
    return Datum([1] * len(logprobs), given)


def said(*logprobs: list[float] | None) -> ForwardBackwardOutput:
    outputs = [{} if one is None else {"logprobs": TensorData(one, "float32")} for one in logprobs]
    return ForwardBackwardOutput(1.0, {}, outputs)


# ---------------------------------------------------------------- the two policies


def test_the_mean_gap_over_positions_with_loss() -> None:
    data = [
        policy_datum([-1.0, -2.0, -3.0], mask=[1.0, 0.0, 1.0]),
        policy_datum([-1.0, -2.0], target_tokens=[-100, 7]),
        policy_datum([-4.0], weights=[0.0]),
    ]
    output = said([-1.5, 0.0, -2.5], [0.0, -3.5], [-9.0])
    assert Comparison(data, "ppo").of(output) == (3, pytest.approx((0.5 - 0.5 + 1.5) / 3))


@pytest.mark.parametrize(
    ("data", "loss_fn", "output", "found"),
    [
        ([policy_datum([-1.0])], "cross_entropy", said([-1.0]), (1, None)),
        ([DATUM], "ppo", said([-1.0, -1.0]), (2, None)),
        ([Datum([1, 2])], "cross_entropy", said([-1.0, 0.0]), (None, None)),
        ([policy_datum([-1.0])], "ppo", said(None), (1, None)),
        ([policy_datum([-1.0])], "ppo", said(), (1, None)),
        ([policy_datum([-1.0])], "ppo", said([-1.0, -1.0]), (1, None)),
        ([policy_datum([-1.0], mask=[0.0])], "ppo", said([-1.0]), (0, None)),
    ],
)
def test_what_cannot_be_known_is_none(data: list[Datum], loss_fn: str, output: Any, found: Any) -> None:
    assert Comparison(data, loss_fn).of(output) == found


def meter(*, draws_curves: bool) -> tuple[Meter, list[Any]]:
    heard: list[Any] = []
    return Meter(heard.append, "r1", TrainerState(8), draws_curves=draws_curves), heard


def test_nothing_is_compared_unless_somebody_asked() -> None:
    quiet, heard = meter(draws_curves=False)
    quiet.of_pass("forward_backward", [policy_datum([-1.0])], "ppo")(said([-1.5]))
    assert (heard[0].loss_tokens, heard[0].kl_sampler_trainer) == (None, None)
    asked, heard = meter(draws_curves=True)
    asked.of_pass("forward_backward", [policy_datum([-1.0])], "ppo")(said([-1.5]))
    assert (heard[0].loss_tokens, heard[0].kl_sampler_trainer) == (1, 0.5)


@pytest.mark.parametrize("told", [5.0, math.nan])
def test_what_the_trainer_counts_is_taken(told: float) -> None:
    output = ForwardBackwardOutput(1.0, {"loss_tokens:sum": told}, [])
    counting, heard = meter(draws_curves=False)
    counting.of_pass("forward_backward", [DATUM], "cross_entropy")(output)
    counting.of_pass("forward_backward", [DATUM])(output)  # a loss of the user's own
    assert [event.loss_tokens for event in heard] == [5 if told == 5.0 else None, None]


def test_a_step_is_at_the_version_that_its_own_result_tells() -> None:
    counting, heard = meter(draws_curves=False)
    first, second = counting.of_step(), counting.of_step()
    second({"step": 2.0})
    first({"step": 1.0})
    first({})
    assert [(event.steps, event.policy_version) for event in heard] == [(1, 2), (0, 1), (0, None)]


# ---------------------------------------------------------------- log_metrics


async def test_numbers_are_told_with_the_step_that_comes_next(service: Any) -> None:
    np = pytest.importorskip("numpy")
    heard: list[Event] = []
    async with ServiceClient(base_url=service.control, observers=[heard.append]) as client:
        training = await client.create_lora_training_client_async("acme/model")
        training.log_metrics({"reward": np.float32(0.5), "samples": 3})
        await training.optim_step_async(AdamParams())
        await asyncio.to_thread(training.log_metrics, {"reward": 1.0})
        training.log_metrics({"accuracy": 0.9}, step=1)
    logged = [event for event in heard if isinstance(event, MetricsLogged)]
    assert logged == [
        MetricsLogged("log_metrics", "r1", 0, {"reward": 0.5, "samples": 3.0}),
        MetricsLogged("log_metrics", "r1", 1, {"reward": 1.0}),
        MetricsLogged("log_metrics", "r1", 1, {"accuracy": 0.9}, 1),
    ]
    assert not [line for line in service.lines() if "metric" in line]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["reward"],), r"^metrics: expected numbers by name, got \['reward'\]"),
        (({"reward": "high"},), r"^metrics\['reward'\]: expected a number, got 'high'"),
        (({"reward": None},), r"^metrics\['reward'\]: expected a number, got None"),
        (({"good": True},), r"^metrics\['good'\]: expected a number, got True"),
        (({1: 1.0},), r"^metrics: a name: expected a non-empty string"),
        (({"step": 1},), r"^metrics\['step'\]: this name says which step a row is of; leave it out"),
        (({"time": 1},), r"^metrics\['time'\]: "),
        (({"policy_version": 1},), r"^metrics\['policy_version'\]: "),
        (({"reward": 1.0}, -1), r"^step: expected a value >= 0, got -1"),
    ],
)
async def test_what_is_no_metric(training: Any, arguments: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        training.log_metrics(*arguments)


async def test_a_closed_client_logs_nothing(training: Any) -> None:
    await training.aclose()
    with pytest.raises(ClientClosedError):
        training.log_metrics({"reward": 1.0})


async def test_it_is_drawn_by_wandb(client: ServiceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = []

    class Run:
        @classmethod
        def init(cls, **_options: Any) -> Run:
            return cls()

        def define_metric(self, *_names: Any, **_options: Any) -> None: ...

        def log(self, row: dict[str, Any]) -> None:
            rows.append(row)

        def finish(self) -> None: ...

    monkeypatch.setitem(__import__("sys").modules, "wandb", Run)
    training = await client.create_lora_training_client_async("acme/model", wandb_config=WandbConfig("p"))
    training.log_metrics({"reward": 0.5})
    await (await training.optim_step_async(AdamParams()))
    training.log_metrics({"accuracy": 0.9}, step=1)
    training.log_metrics({"reward": 0.7})
    await training.aclose()
    assert [(row["optimizer_step"], row.get("reward"), row.get("accuracy")) for row in rows] == [
        (1, 0.5, None),
        (1, None, 0.9),
        (2, 0.7, None),
    ]


# ---------------------------------------------------------------- LOOPS_METRICS_DIR


async def train(client: ServiceClient, steps: int = 2) -> Any:
    training = await client.create_lora_training_client_async("acme/model")
    for step in range(steps):
        training.log_metrics({"reward": step / 2})
        await (await training.forward_backward_async([DATUM]))
        await (await training.optim_step_async(AdamParams()))
    return training


async def test_every_training_client_writes_where_the_variable_says(
    service: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOOPS_METRICS_DIR", str(tmp_path / "metrics"))
    before = set(threading.enumerate())  # a client that another test left open may have one of its own
    async with ServiceClient(base_url=service.control) as client:
        training = await train(client)
        service.publish()
        sampling = await (await training.save_weights_and_get_sampling_client_async("a"))
        await sampling.sample_async([1])
        await sampling.compute_logprobs_async([1])
        await train(client, steps=1)
    first, second = (read_metrics(tmp_path / "metrics" / f"{run_id}.jsonl") for run_id in ("r1", "r2"))
    assert [(row["step"], row["loss"], row["reward"], row["grad_norm"]) for row in first] == [
        (1, 0.75, 0.0, 1.0),
        (2, 0.75, 0.5, 1.0),
    ]
    assert len(second) == 1
    assert not [one for one in set(threading.enumerate()) - before if "MetricsObserver" in one.name]


async def test_so_does_a_client_of_servers_that_run_already(
    service: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOOPS_METRICS_DIR", str(tmp_path))
    async with ServiceClient.local(trainer_url=service.trainer) as client:
        await train(client, steps=1)
    assert len(read_metrics(tmp_path / "local.jsonl")) == 1


async def test_samples_of_a_run_count_for_it(service: Any, tmp_path: Path) -> None:
    """From the client that the training client gave; not from one of a sampler of its own."""
    observer = MetricsObserver(tmp_path)
    async with ServiceClient(base_url=service.control, observers=[observer]) as client:
        training = await client.create_lora_training_client_async("acme/model")
        await (await training.optim_step_async(AdamParams()))
        service.publish()
        sampling = await (await training.save_weights_and_get_sampling_client_async("a"))
        judge = await client.create_sampling_client_async("acme/model")
        service.serves = 1
        await sampling.sample_async([1])
        service.serves = 0
        await judge.sample_async([1])
        service.serves = 1
        await sampling.compute_logprobs_async([1])
        await (await training.optim_step_async(AdamParams()))
        await (await training.optim_step_async(AdamParams()))
    await observer.aclose()
    rows = read_metrics(tmp_path / "r1.jsonl")
    assert [row.get("staleness") for row in rows] == [None, 0.0, None]
    assert rows[1]["sampled_tokens_per_second"] > 0


async def test_without_it_nothing_is_written_nor_started(client: ServiceClient, tmp_path: Path) -> None:
    await train(client)
    assert client._metrics is None
    assert not client._network.draws_curves


async def test_a_disk_error_does_not_disturb_training(
    service: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LOOPS_METRICS_DIR", str(tmp_path / "file"))
    async with ServiceClient(base_url=service.control) as client:
        training = await train(client, steps=3)
        assert training.last_policy_version == 3
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert "MetricsObserver" in warned[0]


async def test_a_policy_loss_is_compared_on_its_way(service: Any, tmp_path: Path) -> None:
    heard: list[Any] = []
    observers = [heard.append, MetricsObserver(tmp_path)]
    async with ServiceClient(base_url=service.control, observers=observers) as client:
        training = await client.create_lora_training_client_async("acme/model")
        await (await training.forward_backward_async([policy_datum([-0.25])], "importance_sampling"))
    (measured,) = [event for event in heard if isinstance(event, OperationMeasured)]
    assert (measured.loss_tokens, measured.kl_sampler_trainer) == (1, 0.25)  # the service says -0.5
    await observers[1].aclose()  # type: ignore[attr-defined]
