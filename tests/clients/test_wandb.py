"""Curves of a training client: an offline run read back with wandb's own reader, and wandb failing at every place."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loops_sdk import AdamParams, Datum, InvalidInputError, ServiceClient, WandbConfig
from loops_sdk.instrumentation import OperationMeasured
from loops_sdk.instrumentation.wandb_observer import WandbObserver

DATUM = Datum([1, 2], {"target_tokens": [2, 3]})
CONFIG = WandbConfig("curves", "first")
RATES = [1e-3 * (step + 1) for step in range(20)]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Path]]]:
    """Lets wandb write offline, to a folder of the test's own; gives what it wrote."""
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    yield lambda: sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    import wandb

    wandb.teardown()  # it reads the environment once in its life, and keeps a process


def records(run: Path) -> list[dict[str, Any]]:
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, stdin=subprocess.DEVNULL)
    return [json.loads(line) for line in done.stdout.splitlines()]


def curves(run: Path) -> dict[int, dict[str, Any]]:
    """What was drawn at each optimizer step."""
    steps: dict[int, dict[str, Any]] = defaultdict(dict)
    for record in records(run):
        if record["type"] == "history":
            row = record["history"]["item"]
            steps[int(row["optimizer_step"])] |= {name: row[name] for name in row if not name.startswith("_")}
    return dict(steps)


async def train(client: ServiceClient, steps: int = 20, **options: Any) -> Any:
    training = await client.create_lora_training_client_async("acme/model", wandb_config=CONFIG, **options)
    for rate in RATES[:steps]:
        # The passes first: one that is overtaken by its step has the step's row drawn twice.
        for passed in [await training.forward_backward_async([DATUM]) for _ in range(2)]:
            await passed
        await (await training.optim_step_async(AdamParams(learning_rate=rate)))
    return training


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


async def test_every_metric_at_every_step(
    client: ServiceClient, runs: Callable[[], list[Path]], caplog: pytest.LogCaptureFixture
) -> None:
    training = await train(client)
    await training.aclose()
    (run,) = runs()
    drawn = await asyncio.to_thread(curves, run)
    assert list(drawn) == list(range(1, 21))
    for step, row in drawn.items():
        assert row.pop("tokens_per_second") > 0
        assert row == {
            "optimizer_step": step,
            "policy_version": step,
            "loss": 3.0,
            "tokens": 4,
            "learning_rate": pytest.approx(RATES[step - 1]),
            "forward_backward/loss:sum": 3.0,
            "optim_step/step": step,
            "optim_step/grad_norm": 1.0,
            "optim_step/learning_rate": pytest.approx(RATES[step - 1]),
        }
    assert warnings(caplog) == []


async def test_the_run_says_what_it_is_of(client: ServiceClient, runs: Callable[[], list[Path]]) -> None:
    await (await train(client, steps=1, rank=4)).aclose()
    read = await asyncio.to_thread(records, runs()[0])
    (run,) = [record["run"] for record in read if record["type"] == "run"]
    assert (run["project"], run["display_name"]) == ("curves", "first")
    about = {"base_model": "acme/model", "lora_rank": 4, "run_id": "r1"}
    assert about.items() <= run["config"]["update"].items()
    axes = [record["metric"] for record in read if record["type"] == "metric"]
    assert any(axis.get("step_metric") == "optimizer_step" for axis in axes)


async def test_one_run_per_client_and_all_end_with_the_service(
    client: ServiceClient, runs: Callable[[], list[Path]]
) -> None:
    await asyncio.gather(train(client, steps=1), train(client, steps=3))
    await client.aclose()
    assert sorted([len(await asyncio.to_thread(curves, run)) for run in runs()]) == [1, 3]
    assert not [thread for thread in threading.enumerate() if "Weights & Biases" in thread.name]


async def test_a_config_that_is_none(client: ServiceClient, service: Any) -> None:
    message = r"^wandb_config: expected WandbConfig or None, got dict$"
    with pytest.raises(InvalidInputError, match=message):
        await client.create_lora_training_client_async("acme/model", wandb_config={"project": "p"})  # type: ignore[arg-type]
    assert service.asked == []
    with pytest.raises(InvalidInputError, match=r"^project: expected a non-empty string"):
        WandbConfig("")
    with pytest.raises(InvalidInputError, match=r"^name: expected a non-empty string"):
        WandbConfig("p", "")


# ---------------------------------------------------------------- what wandb does not do


class Run:
    """A run of a wandb that does what a test wants."""

    def __init__(self, failing: str = "", after: int = 0) -> None:
        self.failing, self.left = failing, after
        self.rows: list[dict[str, Any]] = []
        self.threads: set[str] = set()
        self.finished = 0

    def init(self, **_options: Any) -> Run:
        self._meet("init")
        return self

    def define_metric(self, *_names: Any, **_options: Any) -> None:
        self._meet("define_metric")

    def log(self, row: dict[str, Any]) -> None:
        self._meet("log")
        self.rows.append(row)

    def finish(self) -> None:
        self.finished += 1
        self._meet("finish")

    def _meet(self, name: str) -> None:
        self.threads.add(threading.current_thread().name)
        self.left -= name == self.failing
        if name == self.failing and self.left < 0:
            raise RuntimeError(f"wandb is out of order ({name})")


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    def make(**options: Any) -> Run:
        run = Run(**options)
        monkeypatch.setitem(sys.modules, "wandb", run)  # type: ignore[arg-type]
        return run

    return make


@pytest.mark.parametrize(("failing", "drawn"), [("init", 0), ("define_metric", 0), ("log", 5), ("finish", 20)])
async def test_training_goes_on_when_wandb_fails(
    client: ServiceClient,
    service: Any,
    pretend: Callable[..., Run],
    caplog: pytest.LogCaptureFixture,
    failing: str,
    drawn: int,
) -> None:
    run = pretend(failing=failing, after=5 if failing == "log" else 0)
    training = await train(client)
    assert training.last_policy_version == service.steps == 20
    await training.aclose()
    await training.aclose()
    message = f"Weights & Biases failed and records nothing more: RuntimeError: wandb is out of order ({failing})"
    assert warnings(caplog) == [message]
    assert len(run.rows) == drawn
    assert run.finished == (failing != "init")


async def test_without_wandb_there_is_one_warning(
    client: ServiceClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    training = await train(client, steps=2)
    await training.aclose()
    assert [message.partition(":")[0] for message in warnings(caplog)] == [
        "Weights & Biases failed and records nothing more"
    ]


async def test_training_does_not_wait_for_wandb(client: ServiceClient, pretend: Callable[..., Run]) -> None:
    """Twenty steps are over while `wandb.init` still stands."""
    run, go = pretend(), threading.Event()
    begin = run.init

    def init(**options: Any) -> Run:
        assert go.wait(20)
        return begin(**options)

    run.init = init  # type: ignore[method-assign]
    training = await train(client)
    assert run.rows == []
    go.set()
    await training.aclose()
    assert len(run.rows) == 20
    assert run.threads == {"loops_sdk Weights & Biases"}


STATE = "bt://loops:r1/weights/one"
WAYS: dict[str, tuple[Any, ...]] = {
    "create_lora_training_client": ("acme/model",),
    "create_training_client_from_state": (STATE,),
    "create_training_client_from_state_with_optimizer": (STATE,),
    "attach_training_client": ("r1",),
}


@pytest.mark.parametrize("name", WAYS)
async def test_every_way_to_a_client_draws(
    client: ServiceClient, service: Any, pretend: Callable[..., Run], name: str
) -> None:
    run = pretend()
    service.status = {"base_model": "acme/model", "lora_rank": 8}
    service.states = [service.checkpoint("one", target="trainer", lora_adapter_config={"r": 8})]
    await client.create_lora_training_client_async("acme/model")
    training = await getattr(client, f"{name}_async")(*WAYS[name], wandb_config=CONFIG)
    await (await training.optim_step_async(AdamParams()))
    await training.aclose()
    assert (len(run.rows), run.finished) == (1, 1)


# ---------------------------------------------------------------- rows


def measured(operation: str, steps: int, **fields: Any) -> OperationMeasured:
    metrics = {"learning_rate": 0.1} if operation == "optim_step" else {"loss:sum": 2.0, "clipped": steps + 0.5}
    usual = {"run_id": None, "elapsed": 1.0, "metrics": metrics, "policy_version": None}
    numbers = {} if operation == "optim_step" else {"loss": 2.0, "tokens": 8}
    return OperationMeasured(operation, steps=steps, **{**usual, **numbers, **fields})


def rows(pretend: Callable[..., Run], *events: OperationMeasured) -> list[dict[str, Any]]:
    run = pretend()
    observer = WandbObserver(CONFIG)
    for event in events:
        observer(event)
    observer.close()
    return run.rows


def test_a_pass_that_is_overtaken_by_its_step_is_still_drawn_there(pretend: Callable[..., Run]) -> None:
    one, late, step = (measured(name, 0) for name in ("forward_backward", "forward_backward", "optim_step"))
    drawn = rows(pretend, one, step, measured("forward_backward", 1), late)
    assert [(row["optimizer_step"], row["loss"], row["tokens"]) for row in drawn] == [(1, 2.0, 8), (1, 4.0, 16)]
    assert drawn[1]["forward_backward/loss:sum"] == 4.0
    assert drawn[1]["forward_backward/clipped"] == 0.5


def test_a_forward_is_a_row_at_the_step_whose_weights_it_saw(pretend: Callable[..., Run]) -> None:
    forward = measured("forward", 3, policy_version=7)
    assert rows(pretend, forward) == [
        {"optimizer_step": 7, "forward/loss": 2.0, "forward/loss:sum": 2.0, "forward/clipped": 3.5}
    ]


def test_speed_is_tokens_from_one_result_to_the_next(
    pretend: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 101.0, 103.0, 105.0])
    monkeypatch.setattr(time, "time", lambda: next(clock, 105.0))
    events = [measured(name, step) for step in (0, 1) for name in ("forward_backward", "optim_step")]
    drawn = rows(pretend, *events)
    assert [row["tokens_per_second"] for row in drawn] == [4.0, 2.0]  # 8 tokens in 99 to 101, then in 101 to 105


def test_steps_that_are_long_over_are_forgotten(pretend: Callable[..., Run]) -> None:
    run, observer = pretend(), WandbObserver(CONFIG)
    for step in range(200):
        observer(measured("forward_backward", step))
        observer(measured("optim_step", step, policy_version=step + 1))
    observer.close()
    assert [row["optimizer_step"] for row in run.rows] == list(range(1, 201))
    assert len(observer._background._sink._steps._steps) <= 64  # type: ignore[attr-defined]
