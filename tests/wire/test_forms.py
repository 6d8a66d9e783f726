"""What a server offers, and the shortest form that it allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from multidict import CIMultiDict

from loops_sdk import Datum
from loops_sdk._wire import codec, forms
from loops_sdk._wire.bodies import ForwardBackwardBody
from loops_sdk._wire.forms import NOTHING, Body, Offer, encode_large
from loops_sdk._wire.packing import MEDIA_TYPE, is_packed

LARGE = ForwardBackwardBody([Datum(np.arange(40_000), {"weights": np.full(40_000, 0.1, np.float32)})] * 2, "ppo")
SIZE = 160_000


@pytest.mark.parametrize(
    ("headers", "offer"),
    [
        ({}, NOTHING),
        ({"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}, NOTHING),
        ({"Accept": f"application/json, {MEDIA_TYPE}"}, Offer(packed=True)),
        ({"accept": f" {MEDIA_TYPE.upper()} ;q=0.5"}, Offer(packed=True)),
        ({"Accept": f"{MEDIA_TYPE};q=0, */*"}, NOTHING),
        ({"Accept": f"{MEDIA_TYPE}x"}, NOTHING),
        ({"Accept-Encoding": "gzip;q=0.1,zstd;q=1.0"}, Offer(zstd=True)),
        ({"Accept-Encoding": "zstd; q=0.000, identity"}, NOTHING),
        ({"Content-Encoding": "zstd", "Content-Type": MEDIA_TYPE}, NOTHING),
        ({"Accept": ",;,", "Accept-Encoding": ";;"}, NOTHING),
    ],
)
def test_what_an_answer_offers(headers: dict[str, str], offer: Offer) -> None:
    assert Offer.of(CIMultiDict(headers)) == offer


def test_without_an_offer_it_is_the_json_that_it_always_was() -> None:
    body = encode_large(LARGE, size=SIZE)
    assert (b"".join(body.parts), body.headers) == (codec.encode(LARGE), {"Content-Type": "application/json"})
    assert len(body) == len(codec.encode(LARGE))
    assert NOTHING.accepting == {}


def test_packed_where_that_is_offered_and_worth_it() -> None:
    offer = Offer(packed=True)
    body = encode_large(LARGE, offer, size=SIZE)
    assert is_packed(b"".join(body.parts))
    assert body.headers == {"Content-Type": MEDIA_TYPE}
    assert codec.decode_request(b"".join(body.parts), ForwardBackwardBody).data == LARGE.data
    assert MEDIA_TYPE in offer.accepting["Accept"]
    many = ForwardBackwardBody([Datum([1] * 16)] * 4000)
    assert encode_large(many, offer, size=64_000).headers == {"Content-Type": "application/json"}


@pytest.mark.parametrize("packed", [False, True])
def test_compressed_where_that_is_offered(packed: bool) -> None:
    zstd = pytest.importorskip("backports.zstd")
    plain, body = (encode_large(LARGE, Offer(packed, zstd=zstd), size=SIZE) for zstd in (False, True))
    assert body.headers == {**plain.headers, "Content-Encoding": "zstd"}
    assert len(body) < len(plain) / 2
    assert zstd.decompress(b"".join(body.parts)) == b"".join(plain.parts)


def test_not_compressed_where_that_cannot_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> Any:
        raise ImportError(name)

    forms._zstd.cache_clear()
    monkeypatch.setattr(forms.importlib, "import_module", nowhere)
    body = encode_large(LARGE, Offer(zstd=True), size=SIZE)
    forms._zstd.cache_clear()
    assert body == Body((*encode_large(LARGE, size=SIZE).parts,), {"Content-Type": "application/json"})
