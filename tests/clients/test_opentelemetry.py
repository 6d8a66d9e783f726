"""`OpenTelemetryObserver`: one span per call below the caller's own, numbers that add up, and nothing private."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from loops_sdk import AdamParams, Datum, LoopsError, ServiceClient, errors
from loops_sdk.instrumentation import Call, Event, OpenTelemetryObserver, SubmissionFailed

from .conftest import KEY, MODEL, Service

COMPLETIONS = "POST /v1/completions"
PROMPT = [101, 10_102, 10_103]
DATUM = Datum([1, 10_102], {"target_tokens": [10_102, 10_103]})
ADAM = AdamParams(learning_rate=0.1)


class Telemetry:
    """What a service would export."""

    def __init__(self) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self._provider = TracerProvider()
        self._provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer = self._provider.get_tracer("the service's own")
        self.observer = OpenTelemetryObserver(self._provider, MeterProvider([self._reader]))

    def spans(self) -> dict[str, ReadableSpan]:
        """Those of ours by name, the last of a name."""
        return {span.name: span for span in self._spans.get_finished_spans() if span.kind is SpanKind.CLIENT}

    def said(self) -> str:
        """All that is exported, as text."""
        data = self._reader.get_metrics_data()
        return str([span.to_json() for span in self._spans.get_finished_spans()]) + str(data and data.to_json())

    def points(self) -> dict[str, list[Any]]:
        data = self._reader.get_metrics_data()
        assert data is not None
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
async def observed(service: Service, telemetry: Telemetry) -> Any:
    async with ServiceClient(base_url=service.control, observers=[telemetry.observer]) as client:
        yield client


def parents(service: Service, containing: str) -> list[str | None]:
    return [one.headers.get("traceparent") for one in service.asked if containing in one.line]


def traceparent(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


def refused(service: Service, reply: Any, line: str, times: int, status: int = 503) -> None:
    left = [status] * times

    async def refuse(_request: Any) -> Any:
        return reply(left.pop(), {"detail": f"busy with {PROMPT}"}) if left else None

    service.on[line] = refuse


async def test_an_operation_is_a_span_below_that_of_the_caller(
    observed: ServiceClient, service: Service, telemetry: Telemetry
) -> None:
    training = await observed.create_lora_training_client_async(MODEL)
    with telemetry.tracer.start_as_current_span("request") as mine:
        passed = await training.forward_backward_async([DATUM])
    await passed
    await (await training.optim_step_async(ADAM))
    span = telemetry.spans()["forward_backward"]
    assert span.parent == mine.get_span_context()
    assert span.status.status_code is StatusCode.UNSET
    host, port = service.trainer.removeprefix("http://").split(":")
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "forward_backward",
        "gen_ai.provider.name": "loops",
        "gen_ai.request.model": MODEL,
        "server.address": host,
        "server.port": int(port),
        "loops.run.id": "r1",
        "loops.operation.id": passed.operation_id,
        "loops.idempotency_key": passed.idempotency_key,
        "loops.tokens": 2,
    }
    step = telemetry.spans()["optim_step"]
    assert step.parent is None
    assert (step.attributes or {})["loops.policy_version"] == 1
    (submitted,) = parents(service, "POST /forward_backward")
    assert submitted == traceparent(span)
    assert traceparent(span) in parents(service, f"GET /operations/{passed.operation_id}")
    assert parents(service, "POST /optim_step") == [traceparent(step)]


async def test_calls_of_one_gather_have_parents_of_their_own(
    observed: ServiceClient, service: Service, telemetry: Telemetry
) -> None:
    """They are all sent by one task, whose context is that of the first."""
    training = await observed.create_lora_training_client_async(MODEL)
    mine: list[str] = []

    async def step(name: str) -> None:
        with telemetry.tracer.start_as_current_span(name) as own:
            mine.append(f"{own.get_span_context().trace_id:032x}")
            await (await training.optim_step_async(ADAM))

    await asyncio.gather(*(step(f"request {index}") for index in range(5)))
    sent = [parent.split("-")[1] for parent in parents(service, "POST /optim_step") if parent]
    assert sent == mine
    assert len(set(mine)) == 5


async def test_a_retry_is_an_event_and_carries_the_same_parent(
    observed: ServiceClient, service: Service, telemetry: Telemetry, reply: Any
) -> None:
    training = await observed.create_lora_training_client_async(MODEL)
    refused(service, reply, "POST /optim_step", 2)
    await (await training.optim_step_async(ADAM))
    span = telemetry.spans()["optim_step"]
    assert parents(service, "POST /optim_step") == [traceparent(span)] * 3
    assert [(event.name, (event.attributes or {})["attempt"]) for event in span.events] == [("retry", 1), ("retry", 2)]
    assert (span.attributes or {})["http.request.resend_count"] == 2
    (retries,) = telemetry.points()["loops.client.retries"]
    assert (retries.value, retries.attributes["gen_ai.operation.name"]) == (2, "optim_step")


async def test_a_sample_is_a_span_with_its_tokens(
    observed: ServiceClient, service: Service, telemetry: Telemetry
) -> None:
    sampling = await observed.create_sampling_client_async(MODEL)
    with telemetry.tracer.start_as_current_span("request") as mine:
        await sampling.sample_async(PROMPT, 3)
    span = telemetry.spans()[f"text_completion {MODEL}"]
    assert span.parent == mine.get_span_context()
    told = dict(span.attributes or {})
    assert (told["gen_ai.usage.output_tokens"], told["loops.policy_version"], told["loops.sampler.id"]) == (
        6,
        0,
        "alone1",
    )
    assert parents(service, COMPLETIONS) == [traceparent(span)]
    points = telemetry.points()
    assert [point.value for point in points["loops.client.samples.active"]] == [0]
    assert [(point.count, point.sum) for point in points["gen_ai.client.token.usage"]] == [(1, 6)]
    assert [point.count for point in points["gen_ai.client.operation.duration"]] == [1]


async def test_the_gauge_counts_samples_that_are_under_way(
    observed: ServiceClient, service: Service, telemetry: Telemetry
) -> None:
    sampling = await observed.create_sampling_client_async(MODEL)
    arrived, release = asyncio.Semaphore(0), asyncio.Event()

    async def hold(_request: Any) -> None:
        arrived.release()
        await release.wait()

    service.on[COMPLETIONS] = hold
    going = [asyncio.create_task(sampling.sample_async(PROMPT)) for _ in range(3)]
    for _ in going:
        await asyncio.wait_for(arrived.acquire(), 10)
    assert [point.value for point in telemetry.points()["loops.client.samples.active"]] == [3]
    going[0].cancel()
    release.set()
    await asyncio.gather(*going, return_exceptions=True)
    assert [point.value for point in telemetry.points()["loops.client.samples.active"]] == [0]
    failed = [
        point for point in telemetry.points()["gen_ai.client.operation.duration"] if "error.type" in point.attributes
    ]
    assert [(point.count, point.attributes["error.type"]) for point in failed] == [(1, "CancelledError")]


async def test_a_failure_is_told_by_its_type_alone(
    observed: ServiceClient, service: Service, telemetry: Telemetry, reply: Any
) -> None:
    training = await observed.create_lora_training_client_async(MODEL)
    sampling = await observed.create_sampling_client_async(MODEL)
    refused(service, reply, COMPLETIONS, 1, 400)
    refused(service, reply, "POST /optim_step", 1, 400)
    with pytest.raises(errors.BadRequestError, match="10103"):
        await sampling.sample_async(PROMPT)
    with pytest.raises(errors.BadRequestError):
        await training.optim_step_async(ADAM)
    for name in (f"text_completion {MODEL}", "optim_step"):
        span = telemetry.spans()[name]
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        assert (span.attributes or {})["error.type"] == "BadRequestError"
    (point,) = telemetry.points()["loops.client.operation.duration"]
    assert (point.count, point.attributes["error.type"]) == (1, "BadRequestError")


async def test_an_operation_that_fails_on_the_trainer(
    observed: ServiceClient, service: Service, telemetry: Telemetry, reply: Any
) -> None:
    training = await observed.create_lora_training_client_async(MODEL)

    async def failed(_request: Any) -> Any:
        return reply(200, {"status": "error", "error": "no gradient", "error_class": "RuntimeError"})

    service.on["GET /operations/op-0"] = failed
    with pytest.raises(errors.RemoteOpError):
        await (await training.optim_step_async(ADAM))
    assert (telemetry.spans()["optim_step"].attributes or {})["error.type"] == "RemoteOpError"


async def test_spans_end_with_the_client(observed: ServiceClient, service: Service, telemetry: Telemetry) -> None:
    """One waits for its result, one to be sent, one has been withdrawn: none is left open, none would be exported."""
    training = await observed.create_lora_training_client_async(MODEL)
    release, arrived = asyncio.Event(), asyncio.Event()

    async def hold(_request: Any) -> None:
        arrived.set()
        await release.wait()

    service.on["GET /operations/op-0"] = service.on["POST /load_state"] = hold
    future = await training.optim_step_async(ADAM)
    loading = asyncio.create_task(training.load_state_async("bt://loops:r1/weights/a"))
    await asyncio.wait_for(arrived.wait(), 10)
    behind = asyncio.create_task(training.save_state_async("b"))
    await asyncio.sleep(0)
    behind.cancel()
    await asyncio.gather(behind, return_exceptions=True)
    await training.aclose()
    release.set()
    with pytest.raises(errors.ClientClosedError):
        await loading
    with pytest.raises(errors.ClientClosedError):
        await future
    spans = telemetry.spans()
    told = {name: (span.attributes or {}).get("error.type") for name, span in spans.items()}
    assert told["optim_step"] == told["load_state"] == "ClientClosedError"
    assert told["save_state"] in ("ClientClosedError", "CancelledError")


async def test_nothing_private_is_exported(
    observed: ServiceClient, service: Service, telemetry: Telemetry, reply: Any
) -> None:
    training = await observed.create_lora_training_client_async(MODEL)
    sampling = await observed.create_sampling_client_async(MODEL)
    for line in (COMPLETIONS, "POST /forward_backward"):
        refused(service, reply, line, 1)
    await (await training.forward_backward_async([DATUM]))
    await sampling.sample_async(PROMPT)
    refused(service, reply, COMPLETIONS, 1, 400)
    with pytest.raises(LoopsError):
        await sampling.sample_async(PROMPT)
    said = telemetry.said()
    assert "optim" not in said
    for secret in (KEY, "10102", "10103", "busy", "Bearer"):
        assert secret not in said


async def test_without_such_an_observer_nothing_is_sent_along(service: Service) -> None:
    heard: list[Event] = []
    async with ServiceClient(base_url=service.control, observers=[heard.append]) as client:
        training = await client.create_lora_training_client_async(MODEL)
        await (await training.optim_step_async(ADAM))
    assert heard
    assert parents(service, "") == [None] * len(service.asked)


async def test_the_control_plane_and_other_requests_carry_nothing(observed: ServiceClient, service: Service) -> None:
    await observed.create_lora_training_client_async(MODEL)
    assert parents(service, "/v1/loops/") == [None] * len(parents(service, "/v1/loops/"))


async def test_an_observer_that_fails_to_follow_fails_no_call(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def __call__(self, _event: Event) -> None:
            """Hears nothing."""

        def follow(self, call: Call) -> Callable[[Event], None]:
            raise RuntimeError(f"no span for {call.operation}")

    async with ServiceClient(base_url=service.control, observers=[Broken()]) as client:
        sampling = await client.create_sampling_client_async(MODEL)
        assert (await sampling.sample_async(PROMPT)).sequences
    assert "an observer failed to follow sample" in caplog.text


async def test_failed_submissions_are_events_for_everybody(service: Service, reply: Any) -> None:
    heard: list[Event] = []
    refused(service, reply, "POST /optim_step", 1, 400)
    async with ServiceClient(base_url=service.control, observers=[heard.append]) as client:
        training = await client.create_lora_training_client_async(MODEL)
        with pytest.raises(errors.BadRequestError) as caught:
            await training.optim_step_async(ADAM)
    (event,) = [event for event in heard if isinstance(event, SubmissionFailed)]
    assert (event.operation, event.error_type, event.run_id) == ("optim_step", "BadRequestError", "r1")
    assert event.idempotency_key == caught.value.idempotency_key


async def test_without_opentelemetry_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "loops_sdk.instrumentation.opentelemetry_spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(LoopsError, match=r"needs opentelemetry: pip install 'loops-sdk\[otel\]'"):
        OpenTelemetryObserver()


def test_global_providers_are_used_where_none_is_given() -> None:
    """And those of the API alone do nothing, at no one's cost."""
    followed = OpenTelemetryObserver().follow(Call("sample", "http://x", model=MODEL))
    assert followed.headers == {}
