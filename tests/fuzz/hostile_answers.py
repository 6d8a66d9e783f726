"""HTTP answers that no honest server gives: any status, header, body and end of the connection."""

from __future__ import annotations

import gzip
import zlib
from typing import Any, Literal

from hostile_json import JSON, KEY, mutated, written
from hostile_packing import packed
from hypothesis import strategies as st

from loops_sdk._wire.packing import MEDIA_TYPE

#: What becomes of the connection after the answer.
Ending = Literal["keep", "close", "reset", "hang"]


class Answer:
    """The bytes of an answer, and what comes after them. A plain class: hypothesis shows all fields of others."""

    def __init__(self, raw: bytes, ending: Ending) -> None:
        self.raw, self.ending = raw, ending

    def __repr__(self) -> str:
        return f"Answer({self.raw[:400]!r}, {len(self.raw)} bytes, {self.ending})"


STATUSES = st.sampled_from(
    b"200 200 202 204 206 301 302 304 307 400 401 403 404 408 409 412 413 422 425 429 500 501 502 503 504 599 600 999 "
    b"100 101 103 abc -1 99999".split()
) | st.integers(100, 999).map(lambda status: str(status).encode())

_RETRY_AFTER = [b"0", b"-1", b"0.01", b"1e308", b"nan", b"inf", b"-inf", b"", b"soon", b"9" * 400, b"1_0", b"\xff"]
_DATES = [b"Wed, 21 Oct 2015 07:28:00 GMT", b"Fri, 31 Dec 9999 23:59:59 -2359", b"Mon, 01 Jan 0001 00:00:00 -0000"]
_CODINGS = [b"gzip", b"deflate", b"br", b"zstd", b"identity", b"gzip, gzip", b"nonsense", b""]
_VERSIONS = [b"0", b"1", b"2", b"99", b"-1", b"nan", b"1e3", b"", b"1_0", b"\xd9\xa3", b"9" * 5000]
_NAMES = [b"X-Odd", b"x odd", b"X:", b"", b"\xff\xfe", b"X-" + b"n" * 9000, b"Content-Length", b"Host"]


def _headers() -> st.SearchStrategy[bytes]:
    """One header line, or something in its place."""

    def line(name: bytes, *values: bytes) -> st.SearchStrategy[bytes]:
        return st.sampled_from([name + b": " + value for value in values])

    return st.one_of(
        line(b"Retry-After", *_RETRY_AFTER, *_DATES),
        line(b"Content-Length", b"0", b"1", b"1000000", b"99999999999999999999", b"-5", b"abc", b"3, 3"),
        line(b"Content-Encoding", *_CODINGS),
        line(b"Transfer-Encoding", b"chunked", b"gzip, chunked", b"nonsense"),
        line(b"X-Policy-Version", *_VERSIONS),
        line(b"Content-Range", b"bytes 0-9/10", b"bytes 3-9/10", b"bytes 0-9/*", b"bytes %b-1/2" % (b"9" * 5000)),
        line(b"X-Request-Id", b"r1", b"for " + KEY.encode(), b"\xff", b"r" * 7000),
        line(b"Location", b"http://[::1", b"/", b"//evil.example/", b"\xff", b""),
        line(b"Set-Cookie", b"a=b", b"\xff=;;;=", b"a=" + b"c" * 5000),
        line(b"Accept", MEDIA_TYPE.encode(), b"*/*", b";q=0", b",,"),
        line(b"Accept-Encoding", b"zstd", b"*", b";"),
        line(b"Connection", b"close", b"keep-alive", b"upgrade"),
        line(b"Content-Type", b"application/json; charset=utf-16", b"text/html", b";;;", b"a/b; charset=nonsense"),
        st.tuples(st.sampled_from(_NAMES), st.binary(max_size=20)).map(b": ".join),
        st.binary(max_size=30),
        st.just(b"X-Large: " + b"x" * 100_000),
    ).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b""))


#: What a server may say with a status that is an error: all known forms, filled with anything.
_COMPLAINTS = st.one_of(
    st.fixed_dictionaries({"detail": JSON}),
    st.fixed_dictionaries({"detail": st.lists(st.fixed_dictionaries({"loc": JSON, "msg": JSON}) | JSON, max_size=3)}),
    st.fixed_dictionaries({"error": JSON}, optional={"error_class": JSON, "error_code": JSON, "message": JSON}),
    st.fixed_dictionaries({"error": st.fixed_dictionaries({"message": JSON, "type": JSON, "code": JSON})}),
    st.fixed_dictionaries({"code": JSON, "message": JSON}),
    st.just({"detail": "policy version 9 is not loaded"}),
)


@st.composite
def answers(draw: st.DrawFn, good: Any) -> Answer:
    """A hostile answer to a request whose honest answer is `good`."""
    kind = draw(st.sampled_from(["mutated"] * 6 + ["complaint"] * 3 + ["binary", "good", "json", "bytes"]))
    if kind == "binary":
        body, statuses = draw(packed(good)), st.sampled_from([b"200", b"202"])
    elif kind == "mutated":
        body, statuses = written(draw(mutated(good))), st.sampled_from([b"200", b"202"])
    elif kind == "good":
        body, statuses = written(good), STATUSES
    else:
        drawn = {"complaint": _COMPLAINTS.map(written), "json": JSON.map(written), "bytes": st.binary(max_size=200)}
        body, statuses = draw(drawn[kind]), STATUSES
    # Most answers are whole ones, or nothing behind the parser of HTTP would ever be reached.
    headers = draw(st.lists(_headers(), max_size=3)) if draw(st.integers(0, 3)) == 0 else []
    return _assembled(draw(statuses), headers, body, draw(_ENDINGS))


_ENDINGS: st.SearchStrategy[Ending] = st.sampled_from(["keep"] * 16 + ["close"] * 4 + ["reset", "hang"])


def _assembled(status: bytes, headers: list[bytes], body: bytes, ending: Ending) -> Answer:
    body = _packed(headers, body)
    named = b"".join(headers).lower()
    length = [] if b"content-length" in named or b"transfer-encoding" in named else [b"Content-Length: %d" % len(body)]
    head = b"\r\n".join([b"HTTP/1.1 " + status + b" Said", *headers, *length])
    return Answer(head + b"\r\n\r\n" + body, ending)


def _packed(headers: list[bytes], body: bytes) -> bytes:
    """Half of the encodings are told truly: those whose header is the first one."""
    first = headers[0].lower() if headers else b""
    if first == b"content-encoding: gzip":
        return gzip.compress(body)
    if first == b"content-encoding: deflate":
        return zlib.compress(body)
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if first == b"transfer-encoding: chunked" else body
