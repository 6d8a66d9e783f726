"""The span that is current on the calling thread is the parent, whichever loop does the work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from loops_sdk.instrumentation import OpenTelemetryObserver
from loops_sdk.local import LocalStack
from loops_sdk_sync import Datum, ServiceClient, _portal

from .conftest import MODEL


def test_blocking_calls_of_many_threads_and_awaited_ones_have_their_callers_spans(stack: LocalStack) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer, mine = provider.get_tracer("the service's own"), set()

    def within(name: str, call: Callable[[], Any]) -> None:
        with tracer.start_as_current_span(name) as own:
            mine.add(own.get_span_context().span_id)
            call()

    with ServiceClient(observers=[OpenTelemetryObserver(provider)]) as service:
        training = service.create_lora_training_client(MODEL, rank=4, with_sampler=True)
        sampling = training.save_weights_and_get_sampling_client("a").result(timeout=60)
        exporter.clear()

        def score() -> None:
            training.forward([Datum([1, 3], {"target_tokens": [3, 4]})]).result(timeout=60)

        async def sample() -> None:
            with tracer.start_as_current_span("awaited") as own:
                mine.add(own.get_span_context().span_id)
                await sampling.sample_async([1, 2, 3])

        threads = [threading.Thread(target=within, args=(f"thread {index}", score)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        within("main", lambda: sampling.sample([1, 2, 3]))
        asyncio.run(sample())
    ours = [span for span in exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]
    assert sorted(span.name for span in ours) == ["forward"] * 4 + [f"text_completion {MODEL}"] * 2
    assert {span.parent.span_id for span in ours if span.parent} == mine
    assert len(mine) == 6


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_the_bridge_takes_the_context_along(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the thread that calls, whichever loop does the work."""
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    else:
        monkeypatch.setattr(_portal, "_new_event_loop", asyncio.new_event_loop)
    door, seen = _portal.Portal(), ContextVar("seen", default="nothing")

    async def look() -> str:
        return seen.get()

    try:
        seen.set("the caller's")
        assert door.call(look) == "the caller's"
        assert type(door._loop).__module__.startswith(kind)
    finally:
        door.close()
