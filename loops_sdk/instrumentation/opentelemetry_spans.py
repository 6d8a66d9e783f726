"""The span of each call, and the metrics of all. This module imports OpenTelemetry, and is itself imported when needed.

It decides names and attributes, by OpenTelemetry's conventions where there are some. No key, token, prompt or message
of an error is ever among them. Exporting is the providers' business: nothing is waited for here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from loops_sdk.instrumentation.events import (
    Event,
    OperationFinished,
    OperationMeasured,
    OperationSubmitted,
    RequestRetried,
    SampleFailed,
    SampleFinished,
    SubmissionFailed,
)
from loops_sdk.instrumentation.trails import Call

__all__ = ["Spans"]

#: What GenAI conventions call a sample: we send tokens and take tokens.
_SAMPLE = "text_completion"
_OF_SAMPLERS = ("sample", "compute_logprobs")
_PROVIDER = "loops"
_SCOPE = "loops_sdk"
_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Not the global propagator, which may send more along than anybody asked for here.
_PROPAGATOR = TraceContextTextMapPropagator()


class Spans:
    """Makes spans and keeps metrics with the given providers, or else the global ones."""

    def __init__(
        self, tracer_provider: trace.TracerProvider | None, meter_provider: metrics.MeterProvider | None
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._measures = Measures(metrics.get_meter(_SCOPE, meter_provider=meter_provider))
        self._here = threading.local()

    def begin(self, call: Call) -> Followed:
        """The span of a call, in the context of who makes it."""
        return Followed(self._tracer, self._measures, call, self._here)

    def measured(self, event: OperationMeasured) -> None:
        """Keep what a result measured for the end of its operation, which is told next and on the same thread."""
        self._here.measured = event
        self._measures.tokens.add(event.tokens or 0, {"gen_ai.operation.name": event.operation})


class Followed:
    """The span of one call."""

    def __init__(self, tracer: trace.Tracer, measures: Measures, call: Call, here: threading.local) -> None:
        self._measures, self._here = measures, here
        self._is_sample = call.operation in _OF_SAMPLERS
        self._where = _where(call.operation, call.url, call.model)
        self._began_at = time.monotonic()
        self._resent = 0
        self._ended = False
        name = f"{_named(call.operation)} {call.model}" if self._is_sample else call.operation
        self._span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=_attributes(call, self._where))
        sent: dict[str, str] = {}
        _PROPAGATOR.inject(sent, set_span_in_context(self._span))
        self._headers = sent
        if self._is_sample:
            measures.active.add(1, self._where)

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    def __call__(self, event: Event) -> None:
        if self._ended:  # an operation that is asked for again after its time: its span has told of that
            return
        if isinstance(event, RequestRetried):
            self._retried(event)
        elif isinstance(event, OperationSubmitted):
            self._span.set_attribute("loops.operation.id", event.operation_id)
        elif isinstance(event, OperationFinished):
            self._finished(event)
        elif isinstance(event, SampleFinished):
            self._sampled(event)
        elif isinstance(event, SubmissionFailed | SampleFailed):
            self._end(event.error_type)

    def _retried(self, event: RequestRetried) -> None:
        self._resent += 1
        self._span.add_event("retry", {"attempt": event.attempt, "wait": event.wait})
        self._measures.retries.add(1, self._where)

    def _finished(self, event: OperationFinished) -> None:
        measured, self._here.measured = getattr(self._here, "measured", None), None
        if isinstance(measured, OperationMeasured) and measured.operation == event.operation:
            self._note("loops.policy_version", measured.policy_version)
            self._note("loops.tokens", measured.tokens)
        self._end(event.error_type)

    def _sampled(self, event: SampleFinished) -> None:
        self._note("loops.policy_version", event.policy_version)
        self._note("gen_ai.usage.output_tokens", event.tokens)
        self._measures.usage.record(event.tokens, {**self._where, "gen_ai.token.type": "output"})
        self._measures.tokens.add(event.tokens, {"gen_ai.operation.name": _named(event.operation)})
        self._end(None)

    def _note(self, name: str, value: int | None) -> None:
        if value is not None:
            self._span.set_attribute(name, value)

    def _end(self, error_type: str | None) -> None:
        if self._resent:
            self._span.set_attribute("http.request.resend_count", self._resent)
        if error_type is not None:
            self._span.set_attribute("error.type", error_type)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        self._ended = True
        self._measure(error_type)

    def _measure(self, error_type: str | None) -> None:
        where = self._where if error_type is None else {**self._where, "error.type": error_type}
        durations = self._measures.samples if self._is_sample else self._measures.operations
        durations.record(time.monotonic() - self._began_at, where)
        if self._is_sample:
            self._measures.active.add(-1, self._where)


class Measures:
    """The instruments, made once."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.operations = meter.create_histogram(
            "loops.client.operation.duration", "s", "Time from the call of an operation to its result."
        )
        self.samples = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Time from the call of a sample to its result."
        )
        self.usage = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of a sample.")
        self.retries = meter.create_counter("loops.client.retries", "{request}", "Requests sent again.")
        self.tokens = meter.create_counter("loops.client.tokens", "{token}", "Tokens trained on, or sampled.")
        self.active = meter.create_up_down_counter("loops.client.samples.active", "{sample}", "Samples under way.")


def _named(operation: str) -> str:
    return _SAMPLE if operation == "sample" else operation


@lru_cache(maxsize=256)
def _where(operation: str, url: str, model: str | None) -> Mapping[str, Any]:
    """What tells calls apart in metrics: few values, whatever is called."""
    parts = urlsplit(url)
    known: dict[str, Any] = {
        "gen_ai.operation.name": _named(operation),
        "gen_ai.provider.name": _PROVIDER,
        "gen_ai.request.model": model,
        "server.address": parts.hostname,
        "server.port": parts.port or _DEFAULT_PORTS.get(parts.scheme),
    }
    return {name: value for name, value in known.items() if value is not None}


def _attributes(call: Call, where: Mapping[str, Any]) -> dict[str, Any]:
    ids = {
        "loops.run.id": call.run_id,
        "loops.operation.id": call.operation_id,
        "loops.idempotency_key": call.idempotency_key,
        "loops.sampler.id": call.sampler_id,
    }
    return {**where, **{name: value for name, value in ids.items() if value is not None}}
