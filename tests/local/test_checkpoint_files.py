"""Files of checkpoints: who may fetch them, for how long, and that what comes is whole."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import pytest

from loops_sdk._wire.codec import from_dict
from loops_sdk.errors import PermissionDeniedError
from loops_sdk.local.control_plane.signing import Signer
from loops_sdk.types import CheckpointFilesResponse, CheckpointPath

from .conftest import KEY, Serve
from .plane import Plane, started

FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": bytes(range(256)) * 40, "deep/er é.txt": b"text"}
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def plane(tmp_path: Path, serve: Serve, clock: Clock) -> Plane:
    return await started(tmp_path, serve, url_lifetime=60.0, clock=clock)


@pytest.fixture
async def run_id(plane: Plane) -> str:
    run = await plane.run("trainers")
    plane.save(run["id"], "sampler_weights", "step-1", FILES)
    return str(run["id"])


async def fetch(plane: Plane, url: str, **headers: str) -> tuple[int, bytes]:
    """Without the key, unless it is among the headers."""
    async with plane.peer.session.get(url, headers=headers) as response:
        return response.status, await response.read()


async def refused(plane: Plane, url: str) -> str:
    async with plane.peer.session.get(url) as response:
        assert response.status == 403, await response.text()
        body = await response.json()
        assert (set(body), body["code"]) == ({"code", "message"}, "FORBIDDEN")
        return str(body["message"])


def changed(url: str, *, path: str | None = None, **query: str) -> str:
    parts = urlsplit(url)
    wanted = {**dict(parse_qsl(parts.query)), **query}
    return parts._replace(path=path or parts.path, query=urlencode(wanted)).geturl()


async def test_every_file_is_listed_and_can_be_fetched_without_the_key(plane: Plane, run_id: str) -> None:
    before = datetime.now(UTC)
    page = await plane.files(run_id)
    assert from_dict(CheckpointFilesResponse, page).total_count == 3
    assert page["next_page_token"] is None
    (checkpoint,) = (await plane.get("checkpoints", run_id=run_id))["checkpoints"]
    assert sum(file["size_bytes"] for file in page["presigned_urls"]) == checkpoint["size_bytes"]
    fetched = {}
    for file in page["presigned_urls"]:
        assert KEY not in file["url"]
        assert file["node_rank"] == 0
        written = datetime.fromisoformat(file["last_modified"])
        assert abs((before - written).total_seconds()) < 60
        status, fetched[file["relative_file_name"]] = await fetch(plane, file["url"])
        assert status == 200
        assert len(fetched[file["relative_file_name"]]) == file["size_bytes"]
    assert fetched == FILES


async def test_pages_are_offsets(plane: Plane, run_id: str) -> None:
    seen: list[str] = []
    token: int | None = 0
    for expected in (2, None):
        page = await plane.files(run_id, page_size="2", page_token=str(token))
        assert page["total_count"] == 3
        seen += [file["relative_file_name"] for file in page["presigned_urls"]]
        token = page["next_page_token"]
        assert token == expected
    assert seen == sorted(FILES)
    assert (await plane.files(run_id, page_size="3"))["next_page_token"] is None
    beyond = await plane.files(run_id, page_token="9")
    assert (beyond["presigned_urls"], beyond["next_page_token"], beyond["total_count"]) == ([], None, 3)


@pytest.mark.parametrize(
    "query", [{"page_size": "0"}, {"page_size": "-1"}, {"page_size": "x"}, {"page_token": "-1"}, {"page": "1"}]
)
async def test_pages_that_make_no_sense(plane: Plane, run_id: str, query: dict[str, str]) -> None:
    (checkpoint,) = (await plane.get("checkpoints", run_id=run_id))["checkpoints"]
    answer = await plane.peer.get(f"/v1/loops/checkpoints/{checkpoint['id']}/files", params=query)
    assert answer.status == 422
    assert next(iter(query)) in answer.json["message"]


async def test_the_source_is_the_list_of_files(plane: Plane, run_id: str) -> None:
    (checkpoint,) = (await plane.get("checkpoints", run_id=run_id))["checkpoints"]
    assert await plane.get(f"checkpoints/{checkpoint['id']}/source") == {"source": {"kind": "s3"}}


@pytest.mark.parametrize("what", ["files", "source"])
@pytest.mark.parametrize(("wrong", "status"), [("step-1", 404), ("nothing", 404), ("..%2F..", 422)])
async def test_the_id_is_wanted_and_not_the_name(plane: Plane, run_id: str, what: str, wrong: str, status: int) -> None:
    answer = await plane.peer.get(f"/v1/loops/checkpoints/{wrong}/{what}")
    assert answer.status == status
    assert "id" in answer.json["message"]


async def test_ranges_so_that_a_download_can_go_on(plane: Plane, run_id: str) -> None:
    file = (await plane.files(run_id))["presigned_urls"][1]
    content = FILES[file["relative_file_name"]]
    assert await fetch(plane, file["url"], Range="bytes=100-199") == (206, content[100:200])
    assert await fetch(plane, file["url"], Range=f"bytes={len(content) - 5}-") == (206, content[-5:])
    status, _ = await fetch(plane, file["url"], Range=f"bytes={len(content)}-")
    assert status == 416
    async with plane.peer.session.head(file["url"]) as response:
        assert (response.status, response.content_length) == (200, len(content))


async def test_whole_or_in_part_a_file_says_what_all_of_it_comes_to(plane: Plane, run_id: str) -> None:
    for file in (await plane.files(run_id))["presigned_urls"]:
        expected = base64.b64encode(hashlib.sha256(FILES[file["relative_file_name"]]).digest()).decode()
        for headers in ({}, {"Range": "bytes=1-"}):
            async with plane.peer.session.get(file["url"], headers=headers) as response:
                assert response.status in (200, 206)
                assert response.headers["Repr-Digest"] == f"sha-256=:{expected}:"


@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", "Bearer wrong", "Basic x"])
async def test_a_key_that_comes_along_is_not_looked_at(plane: Plane, run_id: str, authorization: str) -> None:
    file = (await plane.files(run_id))["presigned_urls"][0]
    assert (await fetch(plane, file["url"], Authorization=authorization))[0] == 200
    altered = changed(file["url"], signature="0" * 64)
    assert (await fetch(plane, altered, Authorization=authorization))[0] == 403


async def test_an_address_expires(plane: Plane, run_id: str, clock: Clock) -> None:
    file = (await plane.files(run_id))["presigned_urls"][0]
    clock.now = NOW + 59
    assert (await fetch(plane, file["url"]))[0] == 200
    clock.now = NOW + 60
    assert "expired" in await refused(plane, file["url"])
    fresh = (await plane.files(run_id))["presigned_urls"][0]
    assert (await fetch(plane, fresh["url"]))[0] == 200


async def test_nothing_about_an_address_can_be_altered(plane: Plane, run_id: str) -> None:
    one, other = (await plane.files(run_id))["presigned_urls"][:2]
    query = dict(parse_qsl(urlsplit(one["url"]).query))
    flipped = query["signature"][:-1] + ("0" if query["signature"][-1] != "0" else "1")
    altered = [
        changed(one["url"], expires=str(int(query["expires"]) + 3600)),
        changed(one["url"], expires="0" + query["expires"]),
        changed(one["url"], expires=""),
        changed(one["url"], signature=flipped),
        changed(one["url"], signature=query["signature"].upper()),
        changed(one["url"], signature=""),
        changed(one["url"], signature="é\x00"),
        changed(one["url"], path=urlsplit(other["url"]).path),
        one["url"].partition("?")[0],
    ]
    for url in altered:
        if url != one["url"]:
            assert "altered" in await refused(plane, url)
    assert (await fetch(plane, changed(one["url"], download="1")))[0] == 422


async def test_each_deployment_has_a_secret_of_its_own(plane: Plane, run_id: str, serve: Serve, clock: Clock) -> None:
    url = (await plane.files(run_id))["presigned_urls"][0]["url"]
    again = await started(plane.storage.root, serve, clock=clock)
    elsewhere = urlsplit(url)._replace(netloc=urlsplit(again.peer.url).netloc).geturl()
    await refused(again, elsewhere)


SECRETS = [
    "checkpoint.json",
    "../../run.json",
    "../../../../team.json",
    "/etc/passwd",
    "deep",
    "deep/../x",
    ".",
    "link",
]


@pytest.mark.parametrize("name", SECRETS)
async def test_only_the_checkpoints_own_files_are_served_whatever_is_signed(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also for somebody who knew the secret."""
    signer = Signer()
    monkeypatch.setattr("loops_sdk.local.control_plane.server.Signer", lambda *_, **__: signer)
    plane = await started(tmp_path, serve)
    run = await plane.run("trainers")
    path = plane.save(run["id"], "weights", "a", FILES)
    save = plane.storage.checkpoint(CheckpointPath.parse(path)).folder
    (save / "link").symlink_to(plane.storage.root / "team.json")
    target = signer.path(run["id"], save.name, name)
    status, body = await raw_get(plane, target)
    assert status in (403, 404), body
    assert b"created_at" not in body
    assert b"root:" not in body


async def raw_get(plane: Plane, target: str) -> tuple[int, bytes]:
    """A request line as it is: clients tidy dots away before they send."""
    from yarl import URL

    async with plane.peer.session.get(URL(plane.peer.url + target, encoded=True)) as response:
        return response.status, await response.read()


async def test_a_name_that_leads_elsewhere_is_refused_by_the_storage(plane: Plane, run_id: str) -> None:
    (saved,) = plane.storage.checkpoints(run_id)
    for save, name in ((saved.folder.name, "../../run.json"), ("..", "run.json"), (".", "x"), ("../..", "team.json")):
        with pytest.raises(Exception, match=r"no file|expected 1 to 255"):
            plane.storage.file(run_id, save, name)
    assert plane.storage.file(run_id, saved.folder.name, "deep/er é.txt").read_bytes() == b"text"


async def test_a_checkpoint_that_is_replaced_gives_the_old_files_or_none(plane: Plane, run_id: str) -> None:
    urls = {file["relative_file_name"]: file["url"] for file in (await plane.files(run_id))["presigned_urls"]}
    plane.save(run_id, "sampler_weights", "step-1", dict.fromkeys(FILES, b"new"))
    for name, url in urls.items():
        assert await fetch(plane, url) == (200, FILES[name])
    plane.storage.sweep(run_id)
    for url in urls.values():
        status, body = await fetch(plane, url)
        assert status == 404
        assert b"replaced" in body
    page = await plane.files(run_id)
    assert {(await fetch(plane, file["url"]))[1] for file in page["presigned_urls"]} == {b"new"}


async def test_a_download_that_has_begun_ends_whole(plane: Plane, run_id: str) -> None:
    large = bytes(range(256)) * 4 * 2**14  # more than the buffers of a connection hold
    plane.save(run_id, "sampler_weights", "step-1", {"large": large})
    (file,) = (await plane.files(run_id))["presigned_urls"]
    async with aiohttp.ClientSession(read_bufsize=2**12) as session, session.get(file["url"]) as response:
        first = await response.content.read(1)
        plane.save(run_id, "sampler_weights", "step-1", {"large": b"new"})
        plane.storage.sweep(run_id)
        assert first + await response.read() == large


async def test_the_files_of_a_checkpoint_that_expires_are_not_to_be_had_for_longer(
    plane: Plane, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await plane.run("trainers")
    monkeypatch.setattr("loops_sdk.local.storage.directory.time.time", clock)
    plane.save(run["id"], "weights", "short", ttl_seconds=10)
    (file,) = (await plane.files(run["id"]))["presigned_urls"]
    clock.now = NOW + 9
    assert (await fetch(plane, file["url"]))[0] == 200
    clock.now = NOW + 10
    assert "expired" in await refused(plane, file["url"])


def test_what_is_signed_cannot_be_cut_another_way() -> None:
    signer = Signer(clock=lambda: NOW)
    given = dict(parse_qsl(urlsplit(signer.path("run", "save", "a/b")).query))
    signer.check("run", "save", "a/b", given)
    others: list[tuple[str, str, str]] = [("run", "save/a", "b"), ("runs", "ave", "a/b"), ("run", "save", "a\0b")]
    for other in others:
        with pytest.raises(PermissionDeniedError):
            signer.check(*other, given)


async def test_validate(plane: Plane, run_id: str) -> None:
    async def validate(**body: Any) -> Any:
        return await plane.peer.post("/v1/loops/checkpoints/validate", body)

    good = f"bt://loops:{run_id}/sampler_weights/step-1"
    assert (await validate(checkpoint_path=good)).json == {}
    assert (await validate(checkpoint_path=good, run_id=run_id)).status == 200
    small = await plane.run("trainers", lora_rank=8)
    for body in (
        {"checkpoint_path": "s3://bucket/x"},
        {"checkpoint_path": good.replace("sampler_weights", "weights")},
        {"checkpoint_path": good + "0"},
        {"checkpoint_path": good, "run_id": small["id"]},
        {"checkpoint_path": good, "run_id": "nothing"},
    ):
        answer = await validate(**body)
        assert (answer.status, set(answer.json)) == (400, {"code", "message"}), body
    assert (await validate(path=good)).status == 422
