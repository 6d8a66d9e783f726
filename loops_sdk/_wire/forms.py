"""The form in which a large request travels: JSON, unless the server has offered to take something shorter.

A server offers in the headers of its answers: ``Accept`` names `packing.MEDIA_TYPE` (RFC 9110, 12.5.1),
``Accept-Encoding`` names ``zstd`` (RFC 7694). One that does not is never sent anything but plain JSON.
"""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any

import attrs

from loops_sdk._wire import codec, packing
from loops_sdk._wire.json_text import parts

__all__ = ["NOTHING", "Body", "Offer", "encode_large"]

#: With fewer numbers in a datum, a tensor each costs more than text.
_WORTH_PACKING = 2048
_REFUSED = re.compile(r"q=0(\.0*)?")


@attrs.frozen
class Offer:
    """What a server takes beside plain JSON.

    Attributes:
        packed: the binary form, in which it will answer then, too.
        zstd: bodies that zstd has compressed.
    """

    packed: bool = False
    zstd: bool = False

    @staticmethod
    def of(headers: Mapping[str, str]) -> Offer:
        """What these headers allow: an answer's for the requests that follow, a request's for its answer."""
        return _offer(headers.get("Accept", ""), headers.get("Accept-Encoding", ""))

    @property
    def accepting(self) -> dict[str, str]:
        """The headers that ask for a result in the best form."""
        return {"Accept": f"{packing.MEDIA_TYPE}, application/json"} if self.packed else {}


NOTHING = Offer()


@lru_cache(maxsize=64)
def _offer(accept: str, accept_encoding: str) -> Offer:
    """`Offer.of`: every operation asks, and servers say the same each time."""
    return Offer(_names(accept, packing.MEDIA_TYPE), _names(accept_encoding, "zstd"))


def _names(header: str, wanted: str) -> bool:
    for one in header.lower().split(","):
        name, *parameters = (part.strip() for part in one.split(";"))
        if name == wanted and not any(map(_REFUSED.fullmatch, parameters)):
            return True
    return False


@attrs.frozen
class Body:
    """The bytes of a large request in parts, which can be sent any number of times, and the headers that say what they
    are.
    """

    parts: tuple[bytes, ...]
    headers: Mapping[str, str]

    def __len__(self) -> int:
        return sum(map(len, self.parts))


def encode_large(value: Any, offer: Offer = NOTHING, *, size: int) -> Body:
    """A request body in the shortest form that `offer` allows. Its first field is the list of the datums. For threads.

    Args:
        size: how many numbers it holds.
    """
    plain = codec.plain(value)
    headers = {"Content-Type": "application/json"}
    encoded: Iterable[bytes] = parts(plain)
    if offer.packed and size >= _WORTH_PACKING * len(plain["data"]):
        headers["Content-Type"], encoded = packing.MEDIA_TYPE, [packing.pack(plain)]
    if offer.zstd and (zstd := _zstd()) is not None:
        headers["Content-Encoding"], encoded = "zstd", _compressed(encoded, zstd.ZstdCompressor(level=1))
    return Body(tuple(_leaving_room(encoded)), headers)


def _leaving_room(encoded: Iterable[bytes]) -> Iterator[bytes]:
    """Between two parts the interpreter is free for who waits for it: an event loop would else have to wait for 5 ms
    each time before it may ask for it.
    """
    for part in encoded:
        yield part
        time.sleep(0)


def _compressed(encoded: Iterable[bytes], compressor: Any) -> Iterator[bytes]:
    for part in encoded:
        yield compressor.compress(part)
    yield compressor.flush()


@cache
def _zstd() -> Any:
    """The module of Python 3.14 or its backport, where there is one."""
    for name in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return importlib.import_module(name)
    return None
