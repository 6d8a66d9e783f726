"""The files of a checkpoint: what a checkpoint may be called, and which addresses of S3 are moved to a region."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_sdk import ServiceClient, errors
from loops_sdk._clients.archives import archive_url, regional

PATH = "bt://loops:r1/sampler_weights/step-1"
FILES = "GET /v1/loops/checkpoints/id-step-1/files"
SIGNED = "AWSAccessKeyId=A&Signature=s%2Fx%3D&Expires=9"
SIGV4 = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-SignedHeaders=host&X-Amz-Signature=ab"


@pytest.fixture(autouse=True)
def files(service: Any, monkeypatch: pytest.MonkeyPatch, reply: Any) -> None:
    """One file of one checkpoint, on S3's global endpoint."""
    monkeypatch.delenv("S3_REGION", raising=False)

    async def answer(_request: Any) -> Any:
        file = {
            "url": f"https://bucket.s3.amazonaws.com/a/adapter.safetensors?{SIGNED}",
            "relative_file_name": "a/adapter.safetensors",
            "node_rank": 0,
            "size_bytes": 3,
            "last_modified": "2026-01-01T00:00:00Z",
        }
        return reply(200, {"presigned_urls": [file], "next_page_token": None, "total_count": 1})

    async def unknown(_request: Any) -> Any:
        return reply(404, {"message": "no such checkpoint"})

    service.on[FILES] = answer
    service.on["GET /v1/loops/checkpoints/step-1/files"] = unknown


async def test_by_id_and_by_address(client: ServiceClient, service: Any) -> None:
    page = await archive_url(client._way.control(""), "id-step-1", 10, 20)
    assert service.last(FILES).body == {"page_size": "10", "page_token": "20"}
    assert (page.total_count, page.next_page_token) == (1, None)
    assert page.presigned_urls[0].url.startswith("https://bucket.s3.amazonaws.com/a/")
    assert await archive_url(client._way.control(""), PATH) == page
    assert service.last("GET /v1/loops/checkpoints").body == {"checkpoint_path": PATH}
    assert service.last(FILES).body == {"page_size": "1000", "page_token": "0"}


async def test_a_name_is_no_id_and_the_error_says_so(client: ServiceClient) -> None:
    hint = "no such checkpoint; checkpoint_id: expected Checkpoint.id or a bt:// address, not the checkpoint's name"
    with pytest.raises(errors.NotFoundError, match=hint) as caught:
        await archive_url(client._way.control(""), "step-1")
    assert (caught.value.status, caught.value.operation) == (404, "checkpoint_files")
    with pytest.raises(
        errors.NotFoundError,
        match=r"there is no checkpoint bt://loops:r1/weights/none; ",
    ):
        await archive_url(client._way.control(""), "bt://loops:r1/weights/none")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint_id": ""}, r"^checkpoint_id: expected 1 to 255 letters"),
        ({"checkpoint_id": ".."}, r"^checkpoint_id: expected 1 to 255 letters"),
        ({"checkpoint_id": 3}, r"^checkpoint_id: expected 1 to 255 letters"),
        ({"checkpoint_id": "bt://loops:r1"}, r"^checkpoint_id: expected bt://loops:<run_id>/weights/<name> or"),
        ({"checkpoint_id": "bt:loops:r1"}, r"^checkpoint_id: expected bt://loops:<run_id>/weights/<name> or"),
        ({"page_size": 0}, r"^page_size: expected a value >= 1, got 0"),
        ({"page_size": True}, r"^page_size: expected a whole number"),
        ({"page_token": -1}, r"^page_token: expected a value >= 0, got -1"),
        ({"page_token": None}, r"^page_token: expected a whole number, got None"),
    ],
)
async def test_arguments_are_checked_before_anything_is_sent(
    client: ServiceClient, service: Any, arguments: Any, message: str
) -> None:
    with pytest.raises(errors.InvalidInputError, match=message):
        await archive_url(client._way.control(""), **{"checkpoint_id": "id-step-1", **arguments})
    assert service.asked == []


async def test_s3_region_moves_the_addresses(client: ServiceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_REGION", "eu-central-1")
    (file,) = (await archive_url(client._way.control(""), "id-step-1")).presigned_urls
    assert file.url == f"https://bucket.s3.eu-central-1.amazonaws.com/a/adapter.safetensors?{SIGNED}"
    monkeypatch.setenv("S3_REGION", "")
    (file,) = (await archive_url(client._way.control(""), "id-step-1")).presigned_urls
    assert file.url == f"https://bucket.s3.amazonaws.com/a/adapter.safetensors?{SIGNED}"


@pytest.mark.parametrize("region", ["Oregon", "us-west", "us-west-2.evil.com", "us-west-2/", "US-WEST-2", " us-west-2"])
async def test_what_is_no_region_is_refused_before_anything_is_sent(
    client: ServiceClient, service: Any, monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    monkeypatch.setenv("S3_REGION", region)
    with pytest.raises(errors.InvalidInputError, match=r"^S3_REGION: expected an AWS region like us-west-2, got"):
        await archive_url(client._way.control(""), "id-step-1")
    assert service.asked == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("https://b.s3.amazonaws.com/k?x=1", "https://b.s3.us-west-2.amazonaws.com/k?x=1"),
        ("https://b.c-d.s3.amazonaws.com/k", "https://b.c-d.s3.us-west-2.amazonaws.com/k"),
        ("https://s3.amazonaws.com/b/k?x=1", "https://s3.us-west-2.amazonaws.com/b/k?x=1"),
        ("https://b.s3.amazonaws.com:443/k", "https://b.s3.us-west-2.amazonaws.com:443/k"),
        ("HTTPS://B.S3.AmazonAWS.com/K", "HTTPS://B.S3.us-west-2.AmazonAWS.com/K"),
    ],
)
def test_the_global_endpoint_is_moved(before: str, after: str) -> None:
    assert regional(before, "us-west-2") == after


@pytest.mark.parametrize(
    "url",
    [
        f"https://b.s3.amazonaws.com/k?{SIGV4}",
        "https://b.s3.amazonaws.com/k?x-amz-signedheaders=host",
        "https://b.s3.eu-west-1.amazonaws.com/k",
        "https://b.s3-accelerate.amazonaws.com/k",
        "https://s3.amazonaws.com.evil.com/b/k",
        "https://evils3.amazonaws.com/b/k",
        "https://user@s3.amazonaws.com/b/k",
        "https://elsewhere.com/?next=https://b.s3.amazonaws.com/k",
        "http://127.0.0.1:8000/files/k",
    ],
)
def test_every_other_address_stays(url: str) -> None:
    assert regional(url, "us-west-2") == url


hosts = st.one_of(
    st.just("s3.amazonaws.com"),
    st.from_regex(r"[a-z0-9][a-z0-9.-]{1,20}[a-z0-9]\.s3\.amazonaws\.com", fullmatch=True),
    st.sampled_from(["b.s3.eu-west-1.amazonaws.com", "elsewhere.com", "s3.amazonaws.com.evil.com"]),
)
texts = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#"), max_size=30)


@given(host=hosts, path=texts, query=texts, region=st.sampled_from(["us-west-2", "us-gov-east-1", "ap-southeast-11"]))
def test_nothing_but_the_host_ever_changes(host: str, path: str, query: str, region: str) -> None:
    url = f"https://{host}/{path}?{query}"
    moved = regional(url, region)
    before, after = urlsplit(url), urlsplit(moved)
    assert after._replace(netloc="") == before._replace(netloc="")
    assert after.netloc in (before.netloc, before.netloc.replace("s3.amazonaws", f"s3.{region}.amazonaws"))
    assert regional(moved, region) == moved
