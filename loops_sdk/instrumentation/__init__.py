"""What happened, as frozen events, and who hears of it. An observer is any callable that takes an event."""

from loops_sdk.instrumentation.events import (
    Event,
    KeepAliveFailed,
    OperationFinished,
    OperationMeasured,
    OperationSubmitted,
    RequestRetried,
    SampleFinished,
)
from loops_sdk.instrumentation.jsonl import JsonlObserver
from loops_sdk.instrumentation.observers import Emit, Observer, log_events, tell

__all__ = [
    "Emit",
    "Event",
    "JsonlObserver",
    "KeepAliveFailed",
    "Observer",
    "OperationFinished",
    "OperationMeasured",
    "OperationSubmitted",
    "RequestRetried",
    "SampleFinished",
    "log_events",
    "tell",
]
