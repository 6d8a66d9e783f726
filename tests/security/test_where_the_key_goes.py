"""The key goes to the hosts that the control plane named, along no redirect, and into nothing that is shown."""

from __future__ import annotations

import asyncio
import json
import pickle
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loops_sdk import (
    AdamParams,
    BasetenDeployment,
    CheckpointFilesResponse,
    LocalDeployment,
    LoopsError,
    SamplingClient,
    ServiceClient,
    TrainingClient,
    WandbConfig,
)
from loops_sdk._net.network import Network
from loops_sdk._wire import codec
from loops_sdk._wire.retrying import Backoff
from loops_sdk.instrumentation import JsonlObserver
from loops_sdk.local import LocalStack
from loops_sdk.local.stack.child import Settings

from .conftest import KEY

Raw = Callable[[Any], Awaitable[str]]


def shown(error: BaseException | None, seen: tuple[BaseException, ...] = ()) -> Iterator[str]:
    """All texts of an exception, and of those it stands on."""
    if error is None or error in seen:
        return
    yield from (
        str(error),
        repr(error),
        repr(error.args),
        repr(vars(error)),
        "".join(traceback.format_exception(error)),
    )
    yield from shown(error.__cause__, (*seen, error))
    yield from shown(error.__context__, (*seen, error))


def inside(thing: object, seen: set[int]) -> Iterator[str]:
    """The `repr` of an object and of everything of this package, and of aiohttp's, that hangs on it."""
    if id(thing) in seen or not type(thing).__module__.startswith(("loops_sdk", "aiohttp")):
        return
    seen.add(id(thing))
    yield f"{thing!r} {thing!s}"
    for inner in [*getattr(thing, "__dict__", {}).values()]:
        for one in inner if isinstance(inner, list | set | tuple) else [inner]:
            yield from inside(one, seen)


async def headers_of(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")


def http(status: str, body: bytes = b"{}", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def impatient(call: Callable[[TrainingClient], Awaitable[Any]], url: str) -> LoopsError:
    """What a call against a server that misbehaves ends in."""
    client = TrainingClient(url, base_model="m", timeout=2)
    client._network.caller._backoff = client._channel._source.polling.backoff = Backoff(first=0.001, cap=0.002)
    async with client:
        with pytest.raises(LoopsError) as caught:
            await call(client)
    return caught.value


# ---------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("where", ["another port", "a path", "without scheme"])
async def test_no_redirect_is_followed(raw_server: Raw, status: str, where: str) -> None:
    stolen: list[str] = []

    async def thief(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stolen.append(await headers_of(reader))
        writer.write(http("200 OK"))

    there = await raw_server(thief)
    location = {"another port": f"{there}/x", "a path": "/x", "without scheme": there.removeprefix("http:")}[where]
    lines: list[str] = []

    async def mover(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await headers_of(reader)).partition(" HTTP")[0])
        writer.write(http(status, b"{}", f"Location: {location}"))

    url = await raw_server(mover)
    async with SamplingClient(base_model="m", deployment=LocalDeployment(url), timeout=2) as sampler:
        with pytest.raises(LoopsError):
            await sampler.sample_async([1, 2])
    for call in (lambda one: one.health_async(), lambda one: one.optim_step_async(AdamParams())):
        error = await impatient(call, url)
        assert error.status == int(status[:3])
    with pytest.raises(LoopsError):
        async with ServiceClient(base_url=url):
            pass
    assert stolen == []
    assert {line.partition(" ")[2] for line in lines} <= {"/v1/models", "/health", "/optim_step", "/v1/loops/sessions"}


# ---------------------------------------------------------------- what is shown


async def refused_with_the_key(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    said = (await headers_of(reader)).partition("Authorization: ")[2].partition("\r\n")[0]
    writer.write(http("401 No", json.dumps({"detail": f"no such key: {said}"}).encode(), f"X-Request-Id: {said}"))


async def accepted_then_failed_with_the_key(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await headers_of(reader)
    said = head.partition("Authorization: ")[2].partition("\r\n")[0]
    if head.startswith("POST"):
        writer.write(http("202 OK", b'{"operation_id": "op"}'))
    else:
        writer.write(http("200 OK", json.dumps({"status": "error", "error": said, "error_class": said}).encode()))


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await headers_of(reader)).encode("latin-1"))  # a server that sends back what it got


async def broken_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    said = await headers_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + said.encode("latin-1"))


async def another_kind(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    said = await headers_of(reader)
    writer.write(http("200 OK", json.dumps({"policy_version": said, "operation_id": [said]}).encode()))


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await headers_of(reader)
    writer.transport.abort()


SCRIPTS = [refused_with_the_key, accepted_then_failed_with_the_key, no_http, broken_chunks, another_kind, reset]


async def step(client: TrainingClient) -> Any:
    return await (await client.optim_step_async(AdamParams()))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
async def test_the_key_is_in_no_error_log_or_event(
    raw_server: Raw, script: Any, everything_logged: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    asyncio.get_running_loop().set_debug(True)
    url = await raw_server(script)
    errors = [await impatient(step, url)]
    with JsonlObserver(tmp_path / "events.jsonl") as observer:
        service = ServiceClient(base_url=url, observers=[observer])
        service._network.caller._backoff = Backoff(first=0.001, cap=0.002)
        with pytest.raises(LoopsError) as caught:
            await service.open_async()
        await service.aclose()
        errors.append(caught.value)
    texts = [*shown(errors[0]), *shown(errors[1]), (tmp_path / "events.jsonl").read_text(), everything_logged.text]
    texts += [pickle.dumps(error).decode("latin-1") for error in errors]
    assert [text for text in texts if KEY in text] == []


async def test_a_message_with_the_key_stays_readable(raw_server: Raw) -> None:
    error = await impatient(lambda one: one.health_async(), await raw_server(refused_with_the_key))
    assert error.message.startswith("no such key: Bearer (the API key)")
    assert error.request_id == "(the API key)"


async def test_the_key_is_in_no_repr() -> None:
    url = "http://127.0.0.1:1"
    deployment = BasetenDeployment(url, "m", "d", api_base_url=url)
    training = TrainingClient(url, base_model="m", paired_sampling_deployment=deployment)
    sampling, service = SamplingClient(base_model="m", deployment=deployment), ServiceClient(base_url=url)
    local, network = ServiceClient.local(trainer_url=url, sampler_url=url), Network(KEY)
    assert sampling._connection.completions
    assert network.transport._open()
    for made in (training, sampling, service, local, network):
        texts = list(inside(made, set()))
        assert len(texts) > 3
        assert [text for text in texts if KEY in text] == []
        if made is not network:
            await made.aclose()  # type: ignore[union-attr]
    await network.aclose()
    for text in (repr(LocalStack(api_key=KEY)), repr(Settings(KEY, "m", "127.0.0.1", "engine"))):
        assert KEY not in text


async def test_the_key_is_in_no_pickle() -> None:
    sampling = SamplingClient(base_model="m", deployment=LocalDeployment("http://127.0.0.1:1"), api_key=KEY)
    assert KEY.encode() not in pickle.dumps(sampling)
    assert KEY.encode() not in pickle.dumps([LocalDeployment("http://127.0.0.1:1"), WandbConfig("p"), AdamParams()])
    await sampling.aclose()
    service = ServiceClient(base_url="http://127.0.0.1:1", api_key=KEY)
    training = TrainingClient("http://127.0.0.1:1", base_model="m", api_key=KEY)
    for one in (service, training):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(one)
        await one.aclose()


def test_presigned_addresses_are_not_shown() -> None:
    page = codec.structure(
        {
            "presigned_urls": [
                {
                    "url": "https://bucket.example/x?X-Amz-Signature=of-mine",
                    "relative_file_name": "x.safetensors",
                    "node_rank": 0,
                    "size_bytes": 1,
                    "last_modified": "",
                }
            ]
        },
        CheckpointFilesResponse,
    )
    assert "of-mine" not in repr(page)
    assert "of-mine" in page.presigned_urls[0].url
