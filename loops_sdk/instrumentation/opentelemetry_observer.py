"""`OpenTelemetryObserver`: a span of every operation and sample, and metrics, for services that OpenTelemetry observes.

It decides nothing but when OpenTelemetry is imported, which is when an observer is made, and what is said if it cannot
be. Names and attributes are the spans' own business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loops_sdk.errors import LoopsError
from loops_sdk.instrumentation.events import Event, OperationMeasured
from loops_sdk.instrumentation.trails import Call, Follower

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["OpenTelemetryObserver"]


class OpenTelemetryObserver:
    """An observer that makes a span of every operation and every sample, and metrics of all of them.

        observer = OpenTelemetryObserver()
        async with ServiceClient(observers=[observer]) as service:
            ...

    A span is a child of the one that was current at the call, also through `loops_sdk_sync`, and lasts from the call
    to the result. Every request of the call, its retries and polls too, carries the span as a W3C ``traceparent``.

    Span attributes, where they are known: ``gen_ai.operation.name``, ``gen_ai.provider.name``,
    ``gen_ai.request.model``, ``server.address``, ``server.port``, ``error.type``, ``http.request.resend_count`` (how
    many attempts failed before), ``gen_ai.usage.output_tokens`` (new tokens of a sample), ``loops.run.id``,
    ``loops.operation.id``, ``loops.idempotency_key``, ``loops.sampler.id``, ``loops.policy_version`` and
    ``loops.tokens`` (positions in the batch of a pass). A retry is a span event ``retry`` with ``attempt`` and ``wait``
    (seconds). What failed says so by ``error.type`` and its status; the text of the error stays out, for servers quote
    what they were sent.

    Metrics: the histograms ``loops.client.operation.duration`` (seconds from the call of an operation to its result),
    ``gen_ai.client.operation.duration`` (the same of a sample) and ``gen_ai.client.token.usage`` (new tokens of a
    sample), the counters ``loops.client.retries`` and ``loops.client.tokens`` (positions of passes, and sampled
    tokens), and ``loops.client.samples.active``, how many samples are under way. They are told apart by operation,
    model, server and ``error.type`` alone.

    Args:
        tracer_provider: who makes the spans; default: the global one.
        meter_provider: who keeps the metrics; default: the global one.

    Raises:
        LoopsError: OpenTelemetry is not installed.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        try:
            from loops_sdk.instrumentation.opentelemetry_spans import Spans
        except ImportError as error:
            text = f"OpenTelemetryObserver needs {error.name}: pip install 'loops-sdk[otel]'"
            raise LoopsError(text) from error
        self._spans = Spans(tracer_provider, meter_provider)

    def __repr__(self) -> str:
        return "<OpenTelemetryObserver>"

    def follow(self, call: Call) -> Follower:
        """Begin the span of a call, below the one that is current.

        Args:
            call: what is known of it.
        """
        return self._spans.begin(call)

    def __call__(self, event: Event) -> None:
        """Keep what a result measured for the end of its operation, which is told next and on the same thread."""
        if isinstance(event, OperationMeasured):
            self._spans.measured(event)
