"""A secret that was planted anywhere in a record comes out nowhere, and what is none stays as it is."""

from __future__ import annotations

import io
import json
import logging
import string
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from loops_sdk import InvalidInputError, ServiceClient
from loops_sdk.instrumentation import (
    Event,
    JsonLogFormatter,
    RedactingFilter,
    RequestRetried,
    log_events,
    redacted,
    redacting,
    tell,
)
from loops_sdk.instrumentation.redacting import keep_out_of_logs

#: What keys and signatures are made of.
secrets = st.text(string.ascii_letters + string.digits + "._~+/=-", min_size=16, max_size=64)
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=64)
FORMS = [
    "Authorization: Bearer {}",
    "authorization: Api-Key {}",
    "{{'Authorization': 'Bearer {}'}}",
    "{{'Authorization': '{}', 'Accept': '*/*'}}",
    "{{b'Authorization': b'Bearer {}'}}",
    '{{\\"Authorization\\": \\"Bearer {}\\"}}',
    "[('Authorization', 'Basic {}')]",
    "api_key={}",
    "ServiceClient(api_key='{}')",
    '{{"api_key": "{}"}}',
    "BASETEN_API_KEY={} python train.py",
    "HF_TOKEN={}",
    "AWS_SECRET_ACCESS_KEY = {}",
    "x-api-key: 7{}",
    "password='{} and more'",
    "https://s3.amazonaws.com/b/a?X-Amz-Algorithm=AWS4&X-Amz-Signature={}&X-Amz-Expires=60",
    "https://s3.amazonaws.com/b/a?x-amz-credential=AKIA%2F{}#end",
    "https://storage.googleapis.com/b/a?X-Goog-Signature={}",
    "http://127.0.0.1:8000/files/a?expires=1&signature={}",
    "http://127.0.0.1:8000/#key={}",
    "https://user:{}@proxy.example/",
]
planted = st.tuples(st.text(max_size=20), st.sampled_from(FORMS), secrets.map(lambda text: text.replace("/", "_")))


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redacting, "_known", {})


class Log:
    """A logger with a filter on its only handler."""

    def __init__(self, formatter: logging.Formatter | None = None, *, redacts: bool = True) -> None:
        self.text = io.StringIO()
        self.log = logging.Logger("theirs")
        handler = logging.StreamHandler(self.text)
        handler.setFormatter(formatter)
        if redacts:
            handler.addFilter(RedactingFilter())
        self.log.addHandler(handler)

    @property
    def said(self) -> str:
        return self.text.getvalue()


class Odd:
    """Shows its secret in `repr` and `str` alone."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def in_message(log: logging.Logger, text: str) -> None:
    log.warning(text)


def in_arguments(log: logging.Logger, text: str) -> None:
    log.warning("%s of %r", text, {"a": Odd(text)})


def in_arguments_that_do_not_fit(log: logging.Logger, text: str) -> None:
    log.warning("%d", text)


def in_extra(log: logging.Logger, text: str) -> None:
    log.warning("see", extra={"headers": {"a": [text]}, "other": Odd(text)})


def in_an_exception(log: logging.Logger, text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("it failed")


def in_its_cause(log: logging.Logger, text: str) -> None:
    try:
        try:
            raise ValueError(text)
        except ValueError as error:
            raise LookupError("no") from error
    except LookupError:
        log.exception("it failed")


def in_a_note(log: logging.Logger, text: str) -> None:
    try:
        error = ValueError("no")
        error.add_note(text)
        raise ExceptionGroup("several", [error])
    except ExceptionGroup:
        log.exception("it failed")


PLACES = [
    in_message,
    in_arguments,
    in_arguments_that_do_not_fit,
    in_extra,
    in_an_exception,
    in_its_cause,
    in_a_note,
]
LOGS: list[Callable[[], Log]] = [
    Log,
    lambda: Log(JsonLogFormatter(), redacts=False),
    lambda: Log(logging.Formatter("%(message)s %(headers)s %(other)s", defaults={"headers": "", "other": ""})),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", LOGS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(planted, st.text(max_size=20))
def test_a_planted_secret_never_comes_out(
    make: Callable[[], Log], place: Callable[[logging.Logger, str], None], plant: tuple[str, str, str], after: str
) -> None:
    before, form, secret = plant
    text = before + form.format(secret) + " " + after
    assume(secret not in before + after + form)
    log = make()
    place(log.log, text.replace("%", "%%") if place is in_message else text)
    assert log.said
    assert secret not in log.said
    assert secret not in redacted(text)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", LOGS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys, st.text(max_size=20), st.text(max_size=20))
def test_the_key_of_a_client_never_comes_out_wherever_it_stands(
    make: Callable[[], Log], place: Callable[[logging.Logger, str], None], key: str, before: str, after: str
) -> None:
    assume(key not in before + after)
    keep_out_of_logs(key)
    log = make()
    place(log.log, before + key + after)
    for form in (key, json.dumps(key)[1:-1], repr(key)[1:-1]):
        assert form not in log.said


async def test_the_keys_of_clients_are_known() -> None:
    key = "a key of a client that it was given"
    with pytest.raises(InvalidInputError):
        ServiceClient(api_key=key + " ")
    async with ServiceClient.local(trainer_url="http://127.0.0.1:1", api_key=key.replace(" ", "-")):
        assert redacted("it was a-key-of-a-client-that-it-was-given!") == "it was [redacted]!"


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "aB3" * 11,
        "sk-proj-" + "aB3" * 11,
        "ghp_" + "aB3" * 12,
        "AKIA" + "ABCD2345" * 2,
        "ASIA" + "ABCD2345" * 2,
    ],
)
def test_tokens_are_known_by_their_form(secret: str) -> None:
    assert redacted(f"it is {secret}.") == "it is [redacted]."


@pytest.mark.parametrize(
    "text",
    [
        "api_key: none was given and BASETEN_API_KEY is not set. Pass api_key=..., or run".replace("=...", " ="),
        "api_key: expected printable ASCII without spaces around it (the value is not shown here)",
        "forward_backward: attempt 2 failed, the next follows in 0.5 s: no server answers at http://127.0.0.1:8000",
        "OperationSubmitted(operation='a', operation_id='op-1', idempotency_key='0a1b', url='http://x/a?page_token=7')",
        "tokens=1024 tokens_per_second: 4711.0 token_ids=[1, 2, 3] max_tokens=12",
        "the key is sent to nobody; Authorization is not sent; bearer of news",
        "mail ann@acme.co about https://acme.co/a?b=c#top",
        "bt://loops:k4q95w5/sampler_weights/step-100",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_what_stands_around_a_secret_stays() -> None:
    assert redacted("GET https://x/a?b=1&sig=abc&c=2 with Authorization: Bearer abc, api_key='d e' and f") == (
        "GET https://x/a?b=1&sig=[redacted]&c=2 with Authorization: Bearer [redacted], api_key=[redacted]' and f"
    )


def test_a_record_without_a_secret_is_left_alone() -> None:
    try:
        raise ValueError("no secret")
    except ValueError as error:
        record = logging.getLogger("a").makeRecord("a", 30, __file__, 1, "%s", ("b",), (type(error), error, None))
    before = dict(vars(record))
    assert RedactingFilter().filter(record)
    assert vars(record) == before


@pytest.fixture
def heard() -> Iterator[list[logging.LogRecord]]:
    """What a handler of a service gets of our own logger."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler, log = Keep(), logging.getLogger("loops_sdk")
    log.addHandler(handler)
    yield records
    log.removeHandler(handler)


def test_our_own_logger_redacts_for_every_handler(heard: list[logging.LogRecord]) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError(f"no dashboard at https://x/?api_key=of-the-dashboard after {event.operation}")

    tell([log_events, broken])(RequestRetried("sample", "http://x", 2, 0.5, "GET /a?sig=abc refused", run_id="r1"))
    retried, failed = heard
    assert retried.getMessage().endswith("GET /a?sig=[redacted] refused")
    assert "api_key=[redacted]" in (failed.exc_text or "")
    assert failed.exc_info is None


def test_the_fields_of_an_event_are_attributes_of_its_record(heard: list[logging.LogRecord]) -> None:
    log_events(RequestRetried("retrieve optim_step", "http://x/t", 2, 0.5, "busy", "op-1", "r1"))
    (record,) = heard
    assert (record.operation, record.operation_id, record.run_id, record.attempt) == (  # type: ignore[attr-defined]
        "retrieve optim_step",
        "op-1",
        "r1",
        2,
    )
    line = json.loads(JsonLogFormatter().format(record))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "logger": "loops_sdk",
        "message": "retrieve optim_step: attempt 2 failed, the next follows in 0.5 s: busy",
        "operation": "retrieve optim_step",
        "url": "http://x/t",
        "attempt": 2,
        "wait": 0.5,
        "error": "busy",
        "operation_id": "op-1",
        "run_id": "r1",
    }


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=5,
)


@given(json_values)
def test_a_line_is_always_json_in_one_line(value: Any) -> None:
    log = Log(JsonLogFormatter())
    log.log.warning("a\nb", extra={"value": value})
    (line,) = log.said.splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["message"] == "a\nb"


def test_given_names_do_not_replace_the_first_four() -> None:
    log = Log(JsonLogFormatter())
    log.log.warning("mine", extra={"level": "low", "time": 7, "api_key": "abc"})
    line = json.loads(log.said)
    assert (line["level"], line["message"]) == ("WARNING", "mine")
    assert line["api_key"] == "[redacted]"
