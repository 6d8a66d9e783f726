"""One presigned address into one file: whole under its name, or not there at all.

It decides when to go on with a partial file, when to start over and when to give up. It knows no key: who holds a
presigned address may read the file, so nothing else is sent along.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from loops_sdk._net.addresses import origin
from loops_sdk._net.caller import Caller
from loops_sdk._net.digests import Digest
from loops_sdk._net.transport import Stream
from loops_sdk._wire.failures import error_from_response
from loops_sdk._wire.retrying import Backoff, Budget, Wait, decide
from loops_sdk.errors import ConnectionFailedError, InvalidInputError, LoopsError, ProtocolError, StatusError
from loops_sdk.instrumentation import RequestRetried

#: Ends the name of a file that is not whole yet.
PART = ".part"

#: Seconds without a byte after which the server is taken for dead.
_IDLE = 60.0
_ATTEMPTS = 8
#: An attempt that came this many bytes further than all before it starts the count of attempts anew.
_PROGRESS = 2**20
_LONGEST_PAUSE = 120.0
_BACKOFF = Backoff()
#: How file stores say that an address has expired.
_EXPIRED = frozenset({400, 401, 403})
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18})")
_CODE = re.compile(rb"<Code>([\w.]{1,80})</Code>")


class Download:
    """A file on its way to `path`. Until it is whole it is called `path` + ``.part``; what an earlier download left
    under that name is gone on with, so it must be of the same file.

    Args:
        caller: whose connections carry it, and who tells of retries.
        name: what errors call the file.
        url: its presigned address.
        path: where it goes; the folder exists.
        size: the bytes it must have.
        renew: asks for a fresh address; called once at most, when the first is refused.
        on_bytes: hears how many bytes of it are there.

    Raises:
        ProtocolError: `url` is no address.
    """

    def __init__(
        self,
        caller: Caller,
        name: str,
        url: str,
        path: Path,
        size: int,
        renew: Callable[[], Awaitable[str]],
        on_bytes: Callable[[int], None],
    ) -> None:
        self._caller = caller
        self._name, self._url, self._path, self._size = name, _usable(name, url), path, size
        self._part = path.with_name(path.name + PART)
        self._renew: Callable[[], Awaitable[str]] | None = renew
        self._on_bytes = on_bytes
        self._etag: str | None = None
        self._digest: Digest | None = None

    async def run(self) -> None:
        """Fetch the file. When this ends early, by an error or by cancellation, there is no file at `path`.

        Raises:
            StatusError: the server refuses, also a fresh address.
            ConnectionFailedError, RequestTimeoutError: the connection failed, also the last time.
            ProtocolError: the file has another size, another content than the server says, or the fresh address is
                none.
            ClientClosedError: the client was closed.
            LoopsError: the disk does not take it.
        """
        try:
            await self._fetch_patiently()
            await self._finish()
        except LoopsError as error:
            error.add_context(operation="download", url=self._url.partition("?")[0])
            raise
        except OSError as error:  # of the network none is left: those are LoopsErrors
            raise LoopsError(f"{self._path} cannot be written: {error.strerror or error}") from error

    async def _fetch_patiently(self) -> None:
        attempt, furthest = 0, self._have()
        while True:
            attempt += 1
            try:
                return await self._fetch()
            except LoopsError as error:
                if isinstance(error, StatusError) and error.status in _EXPIRED and self._renew is not None:
                    renew, self._renew = self._renew, None
                    self._url = _usable(self._name, await renew())
                    continue
                if (have := self._have()) >= furthest + _PROGRESS:
                    attempt, furthest = 1, have
                await self._pause(error, attempt)

    async def _pause(self, error: LoopsError, attempt: int) -> None:
        now = time.monotonic()
        budget = Budget(_ATTEMPTS, now + _LONGEST_PAUSE)
        verdict = decide(attempt, error, now=now, budget=budget, backoff=_BACKOFF, draw=random.random)
        if not isinstance(verdict, Wait):
            error.add_context(attempts=attempt)
            raise error
        shown = self._url.partition("?")[0]
        self._caller.emit(RequestRetried("download", shown, attempt, verdict.seconds, error.message))
        await self._caller.transport.pause(verdict.seconds)

    async def _fetch(self) -> None:
        """One attempt, from where the partial file ends; from the beginning if the server cannot do that."""
        have = self._have()
        self._on_bytes(min(have, self._size))
        if have == self._size:
            return
        if have > self._size or not await self._ask(have):
            await self._ask(0)

    async def _ask(self, start: int) -> bool:
        """Whether the server answered for the bytes from `start`, or with all of them."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        async with self._caller.transport.stream(self._url, headers=headers, idle=_IDLE) as answer:
            if answer.status == 200:
                self._etag = answer.headers.get("ETag")
                await self._write(answer, 0)
            elif answer.status == 206 and _range(answer) == (start, self._size) and self._is_of_the_same(answer):
                await self._write(answer, start)
            elif start and answer.status in (206, 416):
                return False
            else:
                raise _refusal(self._name, answer, await answer.piece())
        return True

    def _is_of_the_same(self, answer: Stream) -> bool:
        """Whether a part belongs to what came before it: the file may have been changed under its name."""
        before, self._etag = self._etag, answer.headers.get("ETag")
        return before is None or before == self._etag

    async def _write(self, answer: Stream, offset: int) -> None:
        self._digest = Digest.said(answer.headers)
        length = answer.headers.get("Content-Length", "")
        if length.isdecimal() and offset + int(length) != self._size:
            raise self._wrong_size(offset + int(length))
        with self._part.open("r+b" if self._part.exists() else "wb") as file:
            file.truncate(offset)
            file.seek(offset)
            while piece := await answer.piece():
                offset += len(piece)
                if offset > self._size:
                    raise self._wrong_size(offset)
                file.write(piece)
                self._on_bytes(offset)
        if offset < self._size:  # the end of an answer without a length may as well be a lost connection
            raise ConnectionFailedError(f"{self._name} ended after {offset} of {self._size} bytes", code="reset")

    async def _finish(self) -> None:
        with self._part.open("ab") as file:  # an empty file needs no request and is made here
            await asyncio.to_thread(os.fsync, file.fileno())
        if self._digest is not None and not await asyncio.to_thread(self._digest.is_of, self._part):
            self._part.unlink()
            raise ProtocolError(f"{self._name} has come with another content than the server says; it was not kept")
        self._part.replace(self._path)

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _wrong_size(self, seen: int) -> ProtocolError:
        self._part.unlink(missing_ok=True)  # what it holds is of some other file
        return ProtocolError(f"{self._name} was announced with {self._size} bytes, the server has {seen} or more of it")


def _usable(name: str, url: str) -> str:
    """The address itself, if it can be asked as it stands."""
    try:
        origin(url)
    except InvalidInputError as error:
        raise ProtocolError(f"the service named an unusable address for {name}: {error.message}") from None
    if not (url.isascii() and url.isprintable() and " " not in url):
        raise ProtocolError(f"the service named an unusable address for {name}: it is not percent-encoded")
    return url


def _range(answer: Stream) -> tuple[int, int] | None:
    """Where the bytes of a partial answer begin, and how many the whole file has."""
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return (int(match[1]), int(match[2])) if match else None


def _refusal(name: str, answer: Stream, body: bytes) -> StatusError:
    """The error for a status, in words that fit an address without a key. File stores give their reason in XML."""
    error = error_from_response(answer.status, answer.headers, body, now=time.time())
    code = found[1].decode() if (found := _CODE.search(body)) else error.code
    if answer.status in _EXPIRED:
        text = f"the presigned address of {name} was refused: it has expired or was altered"
    elif 300 <= answer.status < 400:
        text = f"the presigned address of {name} leads elsewhere, and redirects are not followed"
    else:
        text = f"the file store answered {answer.status} for {name}"
    return type(error)(text, status=answer.status, code=code, retry_after=error.retry_after)
