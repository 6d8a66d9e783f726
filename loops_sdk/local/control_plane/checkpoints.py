"""The routes of checkpoints: which there are, whether one can be sampled from, and their files.

Files are handed out by addresses that need no key; the list of them does.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import attrs
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from loops_sdk._wire import endpoints
from loops_sdk._wire.endpoints import Endpoint
from loops_sdk.errors import BadRequestError, InvalidInputError, NotFoundError
from loops_sdk.local.control_plane.routes import Route, reply
from loops_sdk.local.control_plane.signing import Signer
from loops_sdk.local.serving import query, read_request, whole_number
from loops_sdk.local.storage import RunRecord, Saved, SavedFile, Storage, checkpoint_path
from loops_sdk.types import CheckpointFile, CheckpointFilesResponse, CheckpointPath

__all__ = ["CheckpointRoutes"]

_PAGE_SIZE = 1000


@attrs.frozen
class _Validate:
    checkpoint_path: str
    run_id: str | None = None


_VALIDATE = Endpoint("validate_checkpoint", "POST", "/v1/loops/checkpoints/validate", dict, _Validate)


class CheckpointRoutes:
    """Checkpoints over HTTP."""

    def __init__(self, storage: Storage, signer: Signer) -> None:
        self._storage, self._signer = storage, signer

    def routes(self) -> Iterator[Route]:
        """What is called where, all of it with the key."""
        yield endpoints.LIST_CHECKPOINTS, self._list
        yield _VALIDATE, self._validate
        yield endpoints.CHECKPOINT_FILES, self._files
        yield endpoints.CHECKPOINT_SOURCE, self._source

    # ------------------------------------------------------------ which there are

    async def _list(self, request: web.Request) -> web.Response:
        wanted = query(request, "run_id", "base_model", "checkpoint_path")
        if len(wanted) != 1:
            given = ", ".join(wanted) or "none"
            raise InvalidInputError(f"run_id, base_model, checkpoint_path: give exactly one of them, got {given}")
        found = await asyncio.to_thread(self._found, **wanted)
        return reply({"checkpoints": [saved.checkpoint for saved in found]})

    def _found(
        self, run_id: str | None = None, base_model: str | None = None, checkpoint_path: str | None = None
    ) -> list[Saved]:
        if checkpoint_path is not None:
            return [self._storage.checkpoint(CheckpointPath.parse(checkpoint_path, "checkpoint_path"))]
        if run_id is not None:
            return self._storage.checkpoints(self._storage.run(run_id).id)
        runs = [run for run in self._storage.runs() if run.base_model == base_model]
        return [saved for run in runs for saved in self._storage.checkpoints(run.id)]

    async def _validate(self, request: web.Request) -> web.Response:
        body = await read_request(request, _Validate)
        try:
            saved = self._storage.checkpoint(
                checkpoint_path("checkpoint_path", body.checkpoint_path, "sampler_weights")
            )
            if body.run_id is not None:
                _require_fit(saved, self._storage.run(body.run_id))
        except (InvalidInputError, NotFoundError) as error:
            raise BadRequestError(error.message, status=400) from None
        return reply({})

    # ------------------------------------------------------------ files

    async def _source(self, request: web.Request) -> web.Response:
        query(request)
        await asyncio.to_thread(self._storage.checkpoint_by_id, request.match_info["checkpoint_id"])
        return reply({"source": {"kind": "s3"}})

    async def _files(self, request: web.Request) -> web.Response:
        wanted = query(request, "page_size", "page_token")
        size = whole_number("page_size", wanted.get("page_size", str(_PAGE_SIZE)), 1)
        start = whole_number("page_token", wanted.get("page_token", "0"), 0)
        saved, files = await asyncio.to_thread(self._files_of, request.match_info["checkpoint_id"])
        end = start + size
        page = [self._presigned(request, saved, file) for file in files[start:end]]
        return reply(CheckpointFilesResponse(page, end if end < len(files) else None, len(files)))

    def _files_of(self, checkpoint_id: str) -> tuple[Saved, list[SavedFile]]:
        saved = self._storage.checkpoint_by_id(checkpoint_id)
        return saved, self._storage.files(saved)

    def _presigned(self, request: web.Request, saved: Saved, file: SavedFile) -> CheckpointFile:
        """The address names the save and not the checkpoint: another save under the same name has other addresses."""
        run_id, save = saved.checkpoint.run_id, saved.folder.name
        path = self._signer.path(run_id, save, file.name, at_latest=saved.expires_at)
        return CheckpointFile(
            url=f"{request.url.origin()}{path}",
            relative_file_name=file.name,
            node_rank=0,
            size_bytes=file.size_bytes,
            last_modified=file.modified_at.isoformat(),
        )

    async def file(self, request: web.Request) -> web.StreamResponse:
        """One file, whole or a range of it, for whoever has its address."""
        run_id, save, name = (request.match_info[part] for part in ("run_id", "save", "name"))
        self._signer.check(run_id, save, name, query(request, "expires", "signature"))
        path = await asyncio.to_thread(self._storage.file, run_id, save, name)
        return _File(path, headers={"Repr-Digest": await asyncio.to_thread(_digest, path)})


class _File(web.FileResponse):
    """A file that may be sent once more without harm: `Watch.count` sends it, and then aiohttp means to."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None if self.prepared else await super().prepare(request)


def _digest(path: Path) -> str:
    """What a file's content comes to (RFC 9530), so that whoever gets it in parts can tell whether they fit."""
    try:
        return _digest_of(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise NotFoundError(f"the file {path.name!r} is gone", status=404) from None


@lru_cache(maxsize=256)
def _digest_of(path: Path, _changed_at: int) -> str:
    with path.open("rb") as file:
        value = hashlib.file_digest(file, "sha256").digest()
    return f"sha-256=:{base64.b64encode(value).decode()}:"


def _require_fit(saved: Saved, run: RunRecord) -> None:
    config = saved.checkpoint.lora_adapter_config or {}
    has, wanted = (saved.checkpoint.base_model, config.get("r")), (run.base_model, run.lora_rank)
    if has != wanted:
        raise InvalidInputError(
            f"checkpoint_path: run {run.id!r} has base model and rank {wanted}, {saved.checkpoint.path} has {has}"
        )
