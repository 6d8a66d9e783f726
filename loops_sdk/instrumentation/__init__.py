"""What happened, as frozen events, and who hears of it. An observer is any callable that takes an event."""

from loops_sdk.instrumentation.events import (
    Event,
    KeepAliveFailed,
    MetricsLogged,
    OperationFinished,
    OperationMeasured,
    OperationSubmitted,
    RequestRetried,
    SampleFinished,
)
from loops_sdk.instrumentation.jsonl import JsonlObserver
from loops_sdk.instrumentation.metrics import MetricsObserver, read_metrics
from loops_sdk.instrumentation.observers import Emit, Observer, log_events, tell

__all__ = [
    "Emit",
    "Event",
    "JsonlObserver",
    "KeepAliveFailed",
    "MetricsLogged",
    "MetricsObserver",
    "Observer",
    "OperationFinished",
    "OperationMeasured",
    "OperationSubmitted",
    "RequestRetried",
    "SampleFinished",
    "log_events",
    "read_metrics",
    "tell",
]
