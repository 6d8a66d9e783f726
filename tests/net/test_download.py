"""A presigned address becomes a whole file or none, whatever the file store does, and never sees the key."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web

from loops_sdk._net import download
from loops_sdk._net.download import Download
from loops_sdk._net.network import Network
from loops_sdk._wire.retrying import Backoff
from loops_sdk.errors import (
    BadRequestError,
    ClientClosedError,
    ConnectionFailedError,
    LoopsError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RequestTimeoutError,
    ServerFailureError,
    StatusError,
)
from loops_sdk.instrumentation import RequestRetried

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HALF = len(CONTENT) // 2


@attrs.define(eq=False)
class Store:
    """A file store that checks a signature and keeps books. What is in `script` answers first, one request each."""

    url: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    signature: str = "good"
    headers: dict[str, str] = attrs.field(factory=dict)
    asked: list[Any] = attrs.field(factory=list)
    script: list[Callable[[web.Request], Awaitable[web.StreamResponse]]] = attrs.field(factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if self.script:
            return await self.script.pop(0)(request)
        if request.query.get("sig") != self.signature:
            text = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
            return web.Response(status=403, text=text)
        return self.whole() if "Range" not in request.headers or not self.ranges else self.part(request)

    def whole(self) -> web.Response:
        return web.Response(body=self.content, headers=self.headers)

    def part(self, request: web.Request) -> web.Response:
        start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.content):
            return web.Response(status=416)
        last, total = len(self.content) - 1, len(self.content)
        headers = {"Content-Range": f"bytes {start}-{last}/{total}", **self.headers}
        return web.Response(status=206, body=self.content[start:], headers=headers)

    def sent_ranges(self) -> list[str | None]:
        return [request.headers.get("Range") for request in self.asked]

    def breaks_after(self, count: int) -> None:
        """The next answer ends after so many of its bytes."""

        async def broken(request: web.Request) -> web.StreamResponse:
            whole = self.part(request) if "Range" in request.headers and self.ranges else self.whole()
            headers = {"Content-Length": str(len(whole.body)), **whole.headers}  # type: ignore[arg-type]
            response = web.StreamResponse(status=whole.status, headers=headers)
            await response.prepare(request)
            await response.write(whole.body[:count])  # type: ignore[index]
            await asyncio.sleep(0.05)  # what was written must be on its way before the connection is cut
            assert request.transport is not None
            request.transport.abort()
            return response

        self.script.append(broken)

    def says(self, status: int, body: str = "", **headers: str) -> None:
        async def said(_request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, text=body, headers=headers)

        self.script.append(said)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_BACKOFF", Backoff(first=0.01, cap=0.02))


@pytest.fixture
async def store(serve: Any, network: Network) -> Store:
    made = Store()
    app = web.Application()
    app.router.add_get("/{name:.*}", made.answer)
    made.url = await serve(app)
    network.transport.trust(made.url)  # as the embedded deployment, whose control plane serves the files as well
    return made


Get = Callable[..., Awaitable[Path]]


@attrs.define
class Renewal:
    """Gives out one address, and counts how often it was asked to."""

    url: str
    count: int = 0

    async def __call__(self) -> str:
        self.count += 1
        return self.url


@pytest.fixture
def renewal(store: Store) -> Renewal:
    return Renewal(f"{store.url}/a?sig=fresh")


@pytest.fixture
def get(store: Store, network: Network, tmp_path: Path, renewal: Renewal) -> Get:
    async def one(url: str | None = None, size: int = len(CONTENT), told: Callable[[int], None] = _deaf) -> Path:
        path = tmp_path / "a"
        await Download(network.caller, "weights/a", url or f"{store.url}/a?sig=good", path, size, renewal, told).run()
        return path

    return one


def _deaf(_count: int) -> None:
    """Nobody wants to know."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_file_arrives_whole_and_the_store_sees_no_key(get: Get, store: Store, tmp_path: Path) -> None:
    told: list[int] = []
    path = await get(told=told.append)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["a"]
    (asked,) = store.asked
    assert "Authorization" not in asked.headers
    assert "secret-key-of-the-tests" not in str(asked.headers)
    assert asked.headers["Accept-Encoding"] == "identity"
    assert (told[0], told[-1]) == (0, len(CONTENT))
    assert told == sorted(told)


async def test_the_address_goes_out_as_it_was_signed(get: Get, store: Store) -> None:
    await get(f"{store.url}/a%2Fb%7Ec?sig=good&X-Sign=a%2Fb%2B%20c&X-Date=1%3A2")
    assert store.asked[0].raw_path == "/a%2Fb%7Ec?sig=good&X-Sign=a%2Fb%2B%20c&X-Date=1%3A2"


async def test_the_bytes_are_on_the_disk_before_the_name_is(
    get: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, list[str]]] = []
    fsync = os.fsync

    def watched(number: int) -> None:
        seen.append((os.fstat(number).st_size, names(tmp_path)))
        fsync(number)

    monkeypatch.setattr(os, "fsync", watched)
    await get()
    assert seen == [(len(CONTENT), ["a.part"])]


async def test_an_empty_file_needs_no_request(get: Get, store: Store) -> None:
    path = await get(size=0)
    assert path.read_bytes() == b""
    assert store.asked == []


# ---------------------------------------------------------------- going on


async def test_a_partial_file_is_gone_on_with(get: Get, store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT[:HALF])
    told: list[int] = []
    assert (await get(told=told.append)).read_bytes() == CONTENT
    assert store.sent_ranges() == [f"bytes={HALF}-"]
    assert told[0] == HALF


async def test_a_whole_partial_file_needs_no_request(get: Get, store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT)
    assert (await get()).read_bytes() == CONTENT
    assert store.asked == []


async def test_a_partial_file_that_is_too_long_is_begun_anew(get: Get, store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * (len(CONTENT) + 7))
    assert (await get()).read_bytes() == CONTENT
    assert store.sent_ranges() == [None]


async def test_a_store_without_ranges_sends_it_all_again(get: Get, store: Store, tmp_path: Path) -> None:
    store.ranges = False
    (tmp_path / "a.part").write_bytes(b"x" * HALF)
    assert (await get()).read_bytes() == CONTENT
    assert store.sent_ranges() == [f"bytes={HALF}-"]


@pytest.mark.parametrize(
    ("status", "content_range"),
    [
        (416, None),
        (206, None),
        (206, f"bytes 0-{HALF}/{len(CONTENT)}"),  # from elsewhere
        (206, f"bytes {HALF}-{HALF}/{len(CONTENT) + 1}"),  # of another file
        (206, f"bytes {HALF}-{HALF}/*"),
        (206, f"bytes {HALF}-{HALF}/{'9' * 5000}"),  # more digits than Python reads
    ],
)
async def test_an_answer_that_does_not_fit_is_asked_for_from_the_beginning(
    get: Get, store: Store, tmp_path: Path, status: int, content_range: str | None
) -> None:
    store.says(status, "nonsense", **({"Content-Range": content_range} if content_range else {}))
    (tmp_path / "a.part").write_bytes(CONTENT[:HALF])
    assert (await get()).read_bytes() == CONTENT
    assert store.sent_ranges() == [f"bytes={HALF}-", None]


async def test_a_broken_connection_is_gone_on_from(get: Get, store: Store, events: list[Any]) -> None:
    store.breaks_after(HALF)
    assert (await get()).read_bytes() == CONTENT
    assert store.sent_ranges() == [None, f"bytes={HALF}-"]
    (retried,) = events
    assert isinstance(retried, RequestRetried)
    assert (retried.operation, retried.url) == ("download", f"{store.url}/a")  # no signature in the log


async def test_an_answer_without_a_length_that_ends_early_is_gone_on_from(get: Get, store: Store) -> None:
    async def early(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(CONTENT[:HALF])
        await response.write_eof()
        return response

    store.script.append(early)
    assert (await get()).read_bytes() == CONTENT
    assert store.sent_ranges() == [None, f"bytes={HALF}-"]


# ---------------------------------------------------------------- giving up


async def test_attempts_are_bounded_and_the_partial_file_stays(get: Get, store: Store, tmp_path: Path) -> None:
    store.breaks_after(100)
    for _ in range(7):
        store.breaks_after(0)
    with pytest.raises(ConnectionFailedError) as caught:
        await get()
    assert len(store.asked) == 8
    assert (caught.value.operation, caught.value.attempts, caught.value.url) == ("download", 8, f"{store.url}/a")
    assert names(tmp_path) == ["a.part"]
    assert (await get()).read_bytes() == CONTENT
    assert store.sent_ranges()[-1] == "bytes=100-"


async def test_an_attempt_that_came_further_does_not_count(
    get: Get, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_PROGRESS", 1000)
    for _ in range(20):
        store.breaks_after(1000)
    assert (await get()).read_bytes() == CONTENT
    assert len(store.asked) == 21


async def test_starting_over_again_and_again_is_not_progress(
    get: Get, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_PROGRESS", 1000)
    store.ranges = False
    for _ in range(20):
        store.breaks_after(1000)
    with pytest.raises(ConnectionFailedError):
        await get()
    assert len(store.asked) <= 9


TROUBLES = [(500, ServerFailureError), (429, OverloadedError), (408, StatusError)]


@pytest.mark.parametrize(("status", "kind"), TROUBLES)
async def test_a_passing_trouble_is_waited_out(get: Get, store: Store, status: int, kind: type[StatusError]) -> None:
    for _ in range(7):
        store.says(status)
    assert (await get()).read_bytes() == CONTENT
    for _ in range(8):
        store.says(status)
    with pytest.raises(kind, match=f"the file store answered {status} for weights/a"):
        await get()
    assert len(store.asked) == 8 + 8


@pytest.mark.parametrize(("status", "kind"), [(404, NotFoundError), (307, StatusError), (204, StatusError)])
async def test_a_final_answer_is_believed(get: Get, store: Store, status: int, kind: type[StatusError]) -> None:
    store.says(status, "", **({"Location": f"{store.url}/elsewhere?sig=good"} if status == 307 else {}))
    with pytest.raises(kind, match=r"weights/a") as caught:
        await get()
    assert caught.value.status == status
    assert len(store.asked) == 1  # nor is a redirect followed
    assert type(caught.value).__module__ == "loops_sdk.errors"


async def test_a_store_that_asks_for_too_long_a_wait_is_not_waited_for(get: Get, store: Store) -> None:
    store.says(503, "", **{"Retry-After": "86400"})
    with pytest.raises(ServerFailureError, match="503") as caught:
        await get()
    assert caught.value.retry_after == 86400


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_an_expired_address_is_renewed_once(get: Get, store: Store, renewal: Renewal, status: int) -> None:
    store.signature = "fresh"
    store.says(status)
    assert (await get()).read_bytes() == CONTENT
    assert renewal.count == 1
    assert [request.query["sig"] for request in store.asked] == ["good", "fresh"]


async def test_an_address_that_is_refused_again_is_an_error(get: Get, store: Store, renewal: Renewal) -> None:
    store.signature = "another"
    with pytest.raises(PermissionDeniedError, match="presigned address of weights/a was refused: it has") as caught:
        await get()
    assert (caught.value.status, caught.value.code, renewal.count) == (403, "AccessDenied", 1)
    assert "training-management" not in str(caught.value)
    assert "sig=" not in str(caught.value)


async def test_a_refused_input_of_the_store_is_an_error_of_ours(get: Get, store: Store) -> None:
    store.says(400, '{"message": "no"}')
    store.says(400, '{"message": "no", "code": "BadThing"}')
    with pytest.raises(BadRequestError) as caught:
        await get()
    assert caught.value.code == "BadThing"


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
async def test_a_file_of_another_size_is_refused(get: Get, store: Store, tmp_path: Path, size: int) -> None:
    with pytest.raises(
        ProtocolError, match=rf"weights/a was announced with {size} bytes, the server has {len(CONTENT)}"
    ):
        await get(size=size)
    assert names(tmp_path) == []


async def test_a_file_that_does_not_end_is_refused(get: Get, store: Store, tmp_path: Path) -> None:
    async def more(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(10):
            await response.write(CONTENT)
        return response

    store.script.append(more)
    with pytest.raises(ProtocolError, match="or more"):
        await get()
    assert names(tmp_path) == []


async def test_a_silent_store_is_given_up(
    get: Get, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(download, "_IDLE", 0.1)
    monkeypatch.setattr(download, "_ATTEMPTS", 2)

    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
        await response.prepare(request)
        await response.write(CONTENT[:10])
        await asyncio.Event().wait()
        return response

    store.script += [silent, silent]
    with pytest.raises(RequestTimeoutError, match=r"within 0.1 s"):
        await get()
    assert names(tmp_path) == ["a.part"]


@pytest.mark.parametrize("url", ["", "ftp://x/a", "http://me:you@x.co/a", "http://x.co/a b", "http://x.co/\u00e9"])
async def test_what_is_no_address_is_the_services_fault(get: Get, url: str) -> None:
    with pytest.raises(ProtocolError, match=r"named an unusable address for weights/a") as caught:
        await get(url or "nothing")
    assert "you@" not in str(caught.value)


# ---------------------------------------------------------------- what the server says of the content

DIGEST = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
OTHER = base64.b64encode(hashlib.sha256(b"other").digest()).decode()


@pytest.mark.parametrize(
    "header",
    [("Repr-Digest", "sha-256=:{}:"), ("Repr-Digest", "md5=:AA==:, sha-256=:{}:"), ("x-amz-checksum-sha256", "{}")],
)
async def test_a_file_is_compared_with_what_the_server_says(
    get: Get, store: Store, tmp_path: Path, header: tuple[str, str]
) -> None:
    name, form = header
    store.headers = {name: form.format(OTHER)}
    with pytest.raises(
        ProtocolError, match="weights/a has come with another content than the server says; it was not kept"
    ):
        await get()
    assert names(tmp_path) == []
    store.headers = {name: form.format(DIGEST)}
    assert (await get()).read_bytes() == CONTENT


@pytest.mark.parametrize("value", [f"{OTHER}-3", "none", f"sha-512=:{OTHER}:", "sha-256=:" + "=" * 44 + ":"])
async def test_what_is_said_of_something_else_is_not_compared(get: Get, store: Store, value: str) -> None:
    store.headers = {"Repr-Digest": value, "x-amz-checksum-sha256": value}
    assert (await get()).read_bytes() == CONTENT


async def test_parts_that_do_not_belong_together_are_found_out(get: Get, store: Store, tmp_path: Path) -> None:
    """What an earlier download left may be of a file that was there before this one."""
    (tmp_path / "a.part").write_bytes(bytes(HALF))
    store.headers = {"Repr-Digest": f"sha-256=:{DIGEST}:"}
    with pytest.raises(ProtocolError, match="another content"):
        await get()
    assert names(tmp_path) == []
    assert (await get()).read_bytes() == CONTENT


async def test_a_file_that_is_changed_on_the_way_is_begun_anew(get: Get, store: Store) -> None:
    store.headers = {"ETag": '"1"'}
    store.breaks_after(HALF)

    async def changed(request: web.Request) -> web.StreamResponse:
        store.headers, store.content = {"ETag": '"2"'}, CONTENT[::-1]
        return store.part(request)

    store.script.append(changed)
    assert (await get()).read_bytes() == CONTENT[::-1]
    assert store.sent_ranges() == [None, f"bytes={HALF}-", None]


async def test_a_file_that_stays_the_same_is_gone_on_with(get: Get, store: Store) -> None:
    store.headers = {"ETag": '"1"'}
    store.breaks_after(HALF)
    store.breaks_after(HALF // 2)
    assert (await get()).read_bytes() == CONTENT
    assert store.sent_ranges() == [None, f"bytes={HALF}-", f"bytes={HALF + HALF // 2}-"]


# ---------------------------------------------------------------- the end of it


@pytest.fixture
def held(store: Store) -> asyncio.Event:
    """Half of the file is sent, and then nothing: set when it is so."""
    sent = asyncio.Event()

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
        await response.prepare(request)
        await response.write(CONTENT[:HALF])
        sent.set()
        await asyncio.Event().wait()
        return response

    store.script.append(half)
    return sent


async def test_a_cancelled_download_leaves_no_file_and_can_be_gone_on_with(
    get: Get, store: Store, tmp_path: Path, held: asyncio.Event
) -> None:
    written = asyncio.Event()
    going = asyncio.create_task(get(told=lambda count: written.set() if count == HALF else None))
    await asyncio.wait_for(written.wait(), 10)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert names(tmp_path) == ["a.part"]
    assert (await get()).read_bytes() == CONTENT
    assert store.sent_ranges() == [None, f"bytes={HALF}-"]


async def test_a_download_ends_with_its_client(get: Get, network: Network, held: asyncio.Event) -> None:
    going = asyncio.create_task(get())
    await held.wait()
    await network.aclose()
    with pytest.raises(ClientClosedError):
        await going


async def test_a_disk_that_refuses_is_an_error_of_ours(get: Get, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(LoopsError, match=rf"{re.escape(str(tmp_path / 'a'))} cannot be written: ") as caught:
        await get()
    assert type(caught.value) is LoopsError
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_disk_that_becomes_full_keeps_what_has_come(
    get: Get, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of a path that takes the first half."""
    usual = Path.open

    def bounded(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        file = usual(path, mode, *more, **options)
        write = file.write

        def some(piece: bytes) -> int:
            if file.tell() + len(piece) > HALF:
                write(piece[: HALF - file.tell()])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(write(piece))

        return _Written(file, some)

    monkeypatch.setattr(Path, "open", bounded)
    with pytest.raises(LoopsError, match=r"cannot be written: No space left on device"):
        await get()
    monkeypatch.undo()
    assert names(tmp_path) == ["a.part"]
    assert (tmp_path / "a.part").stat().st_size == HALF
    assert (await get()).read_bytes() == CONTENT
    assert store.sent_ranges() == [None, f"bytes={HALF}-"]


class _Written:
    """A file that writes as it is told."""

    def __init__(self, file: Any, write: Callable[[bytes], int]) -> None:
        self._file, self.write = file, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()
