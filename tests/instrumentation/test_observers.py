"""Events reach every observer and the log, and no observer can break what it observes."""

from __future__ import annotations

import logging
import pickle

import attrs
import pytest

from loops_sdk.instrumentation import (
    Event,
    KeepAliveFailed,
    MetricsLogged,
    OperationFinished,
    OperationMeasured,
    OperationSubmitted,
    RequestRetried,
    SampleFinished,
    WaitAdvanced,
    WaitFinished,
    WaitStarted,
    log_events,
    tell,
)

EVENTS = [
    OperationSubmitted("forward_backward", "op-1", "key-1", "http://trainer/forward_backward", 0.1),
    OperationMeasured("forward_backward", "r1", 3, 1.5, {"loss:sum": 2.5}, 3, 2.5, 64),
    OperationFinished("forward_backward", "op-1", 1.5),
    OperationFinished("optim_step", "op-2", 1.5, "RuntimeError: no gradient"),
    MetricsLogged("log_metrics", "r1", 3, {"reward": 0.5}),
    KeepAliveFailed("keep_alive", "http://trainer", "no server answers"),
    RequestRetried("sample", "http://sampler", 1, 0.5, "reset"),
    SampleFinished("sample", 1.0, 8, 3),
    WaitStarted("trainer_ready", 7, "trainer of run r1", "r1"),
    WaitAdvanced("trainer_ready", 7, "DEPLOYING", run_id="r1"),
    WaitFinished("trainer_ready", 7, 1.5, "cancelled", "CancelledError", "r1"),
]


@pytest.mark.parametrize("event", EVENTS)
def test_events_are_frozen_values_of_plain_fields(event: Event) -> None:
    assert pickle.loads(pickle.dumps(event)) == event
    values = [
        part for value in attrs.astuple(event) for part in (value.values() if isinstance(value, dict) else [value])
    ]
    assert all(isinstance(value, str | int | float | None) for value in values)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.operation = "other"


def test_every_observer_hears_of_it_though_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []

    def broken(_event: Event) -> None:
        raise RuntimeError("my dashboard is down")

    tell([heard.append, broken, heard.append])(EVENTS[0])
    assert heard == [EVENTS[0], EVENTS[0]]
    (record,) = caplog.records
    assert record.message == "an observer failed on OperationSubmitted"
    assert "my dashboard is down" in (record.exc_text or "")


def test_an_observer_may_end_the_program() -> None:
    def stop(_event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tell([stop])(EVENTS[0])


@pytest.mark.parametrize("event", EVENTS)
def test_what_may_need_a_look_is_a_warning_in_the_log_and_a_failure_is_left_to_its_exception(
    event: Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "loops_sdk")
    log_events(event)
    (record,) = caplog.records
    warned = isinstance(event, RequestRetried | KeepAliveFailed)
    assert record.levelno == (logging.WARNING if warned else logging.DEBUG)
    assert event.operation in record.message
