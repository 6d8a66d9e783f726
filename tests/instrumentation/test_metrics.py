"""`MetricsObserver`: a row per step with what is known and nothing else; `read_metrics` reads it, also half written."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loops_sdk import InvalidInputError
from loops_sdk.instrumentation import (
    Event,
    KeepAliveFailed,
    MetricsLogged,
    MetricsObserver,
    OperationMeasured,
    SampleFinished,
    read_metrics,
)
from loops_sdk.instrumentation.metrics import folder_of_environment, metrics_file


def passed(steps: int, **fields: Any) -> OperationMeasured:
    usual = {"elapsed": 0.0, "metrics": {}, "policy_version": steps, "loss": 6.0, "tokens": 8, "loss_tokens": 4}
    return OperationMeasured("forward_backward", "r1", steps, **{**usual, **fields})


def stepped(steps: int, **fields: Any) -> OperationMeasured:
    metrics = {"learning_rate": 0.1, "grad_norm": 2.0, "clipped": 7.0}
    usual = {"elapsed": 0.0, "metrics": metrics, "policy_version": steps + 1}
    return OperationMeasured("optim_step", "r1", steps, **{**usual, **fields})


def sampled(tokens: int, version: int | None, run_id: str | None = "r1", operation: str = "sample") -> SampleFinished:
    return SampleFinished(operation, 0.0, tokens, version, 0, run_id)


def logged(steps: int, step: int | None = None, **metrics: float) -> MetricsLogged:
    return MetricsLogged("log_metrics", "r1", steps, metrics, step)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Each event comes a second after the one before it; the first at 101."""
    now = [100.0]

    def tick() -> float:
        now[0] += 1
        return now[0]

    with monkeypatch.context() as patch:
        patch.setattr("loops_sdk.instrumentation.background.time.time", tick)
        yield now


@pytest.fixture
def written(tmp_path: Path, clock: list[float]) -> Callable[..., list[dict[str, float]]]:
    def write(*events: Event) -> list[dict[str, float]]:
        with MetricsObserver(tmp_path) as observer:
            for event in events:
                observer(event)
        return read_metrics(tmp_path / "r1.jsonl")

    return write


Written = Callable[..., list[dict[str, float]]]


# ---------------------------------------------------------------- rows


def test_a_row_holds_everything_that_is_known(written: Written) -> None:
    (row,) = written(
        sampled(30, 0), sampled(10, None), logged(0, reward=0.5), passed(0, kl_sampler_trainer=0.25), stepped(0)
    )
    assert row == {
        "time": 105.0,
        "step": 1,
        "loss": 1.5,
        "grad_norm": 2.0,
        "learning_rate": 0.1,
        "tokens": 8,
        "tokens_per_second": 2.0,  # in the four seconds from the first event to the result
        "policy_version": 1,
        "kl_sampler_trainer": 0.25,
        "staleness": 0.0,
        "sampled_tokens_per_second": 10.0,
        "reward": 0.5,
    }


def test_what_is_not_known_is_absent(written: Written) -> None:
    (row,) = written(stepped(4, metrics={"learning_rate": 0.1}, policy_version=None))
    assert row == {"time": 101.0, "step": 5, "learning_rate": 0.1, "policy_version": 5}


def test_passes_add_up_and_compare_by_their_positions(written: Written) -> None:
    one, three = passed(0, loss=2.0, loss_tokens=1), passed(0, loss=3.0, loss_tokens=3)
    (row,) = written(one, three, stepped(0))
    assert (row["loss"], row["tokens"]) == (1.25, 16)
    kl = [passed(0, kl_sampler_trainer=1.0, loss_tokens=1), passed(0, kl_sampler_trainer=0.0, loss_tokens=3), passed(0)]
    assert written(*kl, stepped(0, policy_version=2))[1]["kl_sampler_trainer"] == 0.25


def test_the_loss_of_unknown_positions_is_the_sum(written: Written) -> None:
    (row,) = written(passed(0, loss_tokens=None), passed(0), stepped(0))
    assert row["loss"] == 12.0


def test_a_pass_that_its_step_overtakes_is_put_into_its_row(written: Written, tmp_path: Path) -> None:
    rows = written(passed(0), stepped(0), passed(0, elapsed=3.0), stepped(1))
    assert [(row["step"], row.get("tokens")) for row in rows] == [(1, 16), (2, None)]
    assert len((tmp_path / "r1.jsonl").read_text().splitlines()) == 3


def test_a_forward_is_no_part_of_a_step(written: Written) -> None:
    forward = OperationMeasured("forward", "r1", 0, 0.0, {}, 0, 100.0, 100, 100)
    (row,) = written(forward, passed(0), stepped(0))
    assert (row["loss"], row["tokens"]) == (1.5, 8)


# ---------------------------------------------------------------- samples


def test_staleness_is_how_far_the_samples_were_behind(written: Written) -> None:
    rows = written(sampled(1, 0), stepped(0), sampled(1, 0), sampled(1, 1), stepped(1), stepped(2))
    assert [row.get("staleness") for row in rows] == [0.0, 0.5, None]
    assert [row.get("sampled_tokens_per_second") for row in rows] == [1.0, 2 / 3, None]


def test_whose_version_nobody_tells_has_no_staleness(written: Written) -> None:
    (row,) = written(sampled(1, 0), stepped(0, policy_version=None))
    assert "staleness" not in row
    assert row["sampled_tokens_per_second"] == 1.0


def test_judges_and_prompts_do_not_count(written: Written) -> None:
    (row,) = written(sampled(5, 0, run_id=None), sampled(1, 0, operation="compute_logprobs"), stepped(0))
    assert row.keys().isdisjoint({"staleness", "sampled_tokens_per_second"})


# ---------------------------------------------------------------- the user's own


def test_the_user_has_the_last_word(written: Written) -> None:
    (row,) = written(logged(0, staleness=3.0, loss=9.0, x=1.0), logged(0, x=2.0), sampled(1, 0), passed(0), stepped(0))
    assert (row["staleness"], row["loss"], row["x"]) == (3.0, 9.0, 2.0)


def test_a_step_that_is_named_gets_what_was_logged_for_it(written: Written) -> None:
    rows = written(passed(0), stepped(0), stepped(1), logged(2, step=1, accuracy=0.75))
    assert [row.get("accuracy") for row in rows] == [0.75, None]


def test_what_was_logged_for_a_step_that_never_came_is_kept(written: Written) -> None:
    rows = written(logged(0, reward=0.1), stepped(0), logged(1, reward=0.2), logged(1, other=3.0))
    assert rows[1] == {"time": 104.0, "step": 2, "reward": 0.2, "other": 3.0}


def test_only_a_log(written: Written) -> None:
    assert written(logged(0, accuracy=0.5)) == [{"time": 101.0, "step": 1, "accuracy": 0.5}]


def test_another_client_of_the_same_run_goes_on(written: Written) -> None:
    """It counts its own calls from 0; what it did began after the steps of the first were over."""
    rows = written(passed(0), stepped(0), logged(0, x=1.0), passed(0), stepped(0, policy_version=2), logged(1, x=2.0))
    assert [(row["step"], row.get("loss"), row.get("x")) for row in rows] == [
        (1, 1.5, None),
        (2, 1.5, 1.0),
        (3, None, 2),
    ]


def test_steps_that_are_long_over_are_forgotten(tmp_path: Path) -> None:
    with MetricsObserver(tmp_path) as observer:
        for step in range(200):
            observer(passed(step))
            observer(stepped(step))
        observer.close()
        (steps,) = observer._background._sink._runs.values()  # type: ignore[union-attr, attr-defined]
        assert len(steps._steps) <= 64
    assert [row["step"] for row in read_metrics(tmp_path / "r1.jsonl")] == list(range(1, 201))


# ---------------------------------------------------------------- files


def test_a_file_per_run(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    with MetricsObserver(folder) as observer:
        for run_id in ("a", "b", None):
            observer(OperationMeasured("optim_step", run_id, 0, 0.0, {"learning_rate": 0.1}, 1))
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "b.jsonl", "local.jsonl"]


def test_nothing_is_opened_before_there_is_something_to_write(tmp_path: Path) -> None:
    before = set(threading.enumerate())  # a client that another test left open may have one of its own
    with MetricsObserver(tmp_path / "folder") as observer:
        observer(KeepAliveFailed("keep_alive", "http://t", "reset"))
        assert set(threading.enumerate()) <= before
        observer(sampled(1, 0))
        observer(passed(0))
    observer(stepped(0))
    observer.close()
    assert not (tmp_path / "folder").exists()


async def test_it_closes_on_an_event_loop(tmp_path: Path) -> None:
    observer = MetricsObserver(tmp_path)
    await observer.aclose()
    observer = MetricsObserver(tmp_path)
    observer(stepped(0))
    await observer.aclose()
    assert len(read_metrics(tmp_path / "r1.jsonl")) == 1


@pytest.mark.parametrize("run_id", ["../up", "", "a/b", ".hidden"])
def test_a_run_that_no_file_can_be_named_after(tmp_path: Path, run_id: str, caplog: pytest.LogCaptureFixture) -> None:
    with MetricsObserver(tmp_path / "folder") as observer:
        observer(OperationMeasured("optim_step", run_id, 0, 0.0, {"learning_rate": 0.1}, 1))
    assert [record.levelno for record in caplog.records] == ([logging.WARNING] if run_id else [])
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ([] if run_id else ["local.jsonl"])


def test_a_disk_error_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    with MetricsObserver(tmp_path / "file") as observer:
        for step in range(3):
            observer(stepped(step))
    (record,) = caplog.records
    assert (record.levelno, "records nothing more" in record.message) == (logging.WARNING, True)


def test_numbers_that_json_does_not_know(written: Written, tmp_path: Path) -> None:
    (row,) = written(logged(0, low=-math.inf), passed(0, loss=math.nan), stepped(0))
    assert math.isnan(row["loss"])
    assert row["low"] == -math.inf
    assert json.loads((tmp_path / "r1.jsonl").read_text())["loss"] == "NaN"


# ---------------------------------------------------------------- reading


def test_a_last_line_half_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "r1.jsonl"
    path.write_text('{"step": 2, "loss": 1.5}\n\n{"step": 1}\n{"step": 3, "lo')
    assert read_metrics(path) == [{"step": 1}, {"step": 2, "loss": 1.5}]


@pytest.mark.parametrize(
    "line", ["{", "[1]", "{}", '{"step": null}', '{"step": "NaN"}', '{"step": 1, "x": true}', '{"step": 1, "x": "a"}']
)
def test_a_line_that_is_no_row(tmp_path: Path, line: str) -> None:
    path = tmp_path / "r1.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(InvalidInputError, match=r"r1\.jsonl:2: expected a JSON object of numbers"):
        read_metrics(path)


def test_it_is_read_while_it_is_written(tmp_path: Path) -> None:
    """Whatever the reader sees is whole rows, in order."""
    with MetricsObserver(tmp_path) as observer:
        for step in range(300):
            observer(stepped(step))
        end = time.monotonic() + 20
        while time.monotonic() < end:
            rows = read_metrics(tmp_path / "r1.jsonl") if (tmp_path / "r1.jsonl").exists() else []
            assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
            if len(rows) == 300:
                break
    assert len(rows) == 300


def test_where_rows_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOOPS_METRICS_DIR", raising=False)
    assert folder_of_environment() is None
    monkeypatch.setenv("LOOPS_METRICS_DIR", "")
    assert folder_of_environment() is None
    monkeypatch.setenv("LOOPS_METRICS_DIR", "here")
    monkeypatch.chdir(tmp_path)
    assert folder_of_environment() == tmp_path / "here"
    assert metrics_file(tmp_path, "r1") == tmp_path / "r1.jsonl"
