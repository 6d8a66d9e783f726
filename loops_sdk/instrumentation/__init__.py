"""What happened, as frozen events, and who hears of it. An observer is any callable that takes an event."""

from loops_sdk.instrumentation.events import (
    Event,
    KeepAliveFailed,
    MetricsLogged,
    OperationFinished,
    OperationMeasured,
    OperationSubmitted,
    RequestRetried,
    SampleFailed,
    SampleFinished,
    SubmissionFailed,
    WaitAdvanced,
    WaitFinished,
    WaitStarted,
)
from loops_sdk.instrumentation.json_log import JsonLogFormatter
from loops_sdk.instrumentation.jsonl import JsonlObserver
from loops_sdk.instrumentation.metrics import MetricsObserver, read_metrics
from loops_sdk.instrumentation.observers import Emit, Observer, log_events, tell
from loops_sdk.instrumentation.opentelemetry_observer import OpenTelemetryObserver
from loops_sdk.instrumentation.redacting import RedactingFilter, redacted
from loops_sdk.instrumentation.trails import Call, Follower

__all__ = [
    "Call",
    "Emit",
    "Event",
    "Follower",
    "JsonLogFormatter",
    "JsonlObserver",
    "KeepAliveFailed",
    "MetricsLogged",
    "MetricsObserver",
    "Observer",
    "OpenTelemetryObserver",
    "OperationFinished",
    "OperationMeasured",
    "OperationSubmitted",
    "RedactingFilter",
    "RequestRetried",
    "SampleFailed",
    "SampleFinished",
    "SubmissionFailed",
    "WaitAdvanced",
    "WaitFinished",
    "WaitStarted",
    "log_events",
    "read_metrics",
    "redacted",
    "tell",
]
