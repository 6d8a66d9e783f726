"""A checkpoint's files into a folder: which there are, where they are to be had, and how many come at the same time.
How one file comes over the network is not decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path

import attrs

from loops_sdk._clients.archives import address_of, archive_url
from loops_sdk._clients.checkpoint_folder import CheckpointFolder, check_names
from loops_sdk._clients.control import ControlPlane
from loops_sdk._net.download import Download
from loops_sdk.errors import InvalidInputError, LoopsError, ProtocolError, StatusError, UnsupportedError
from loops_sdk.instrumentation.waiting import Waiting, waiting
from loops_sdk.types import CheckpointFile
from loops_sdk.types._checks import check_int, shown

#: Hears of the bytes that are there, and of those there will be.
Progress = Callable[[int, int], None]


async def download_checkpoint(
    control: ControlPlane,
    checkpoint: str,
    folder: str | Path,
    *,
    parallel: int = 4,
    only: Collection[str] | None = None,
    on_progress: Progress | None = None,
) -> list[Path]:
    """Download all files of a checkpoint.

    Args:
        control: the control plane that knows it.
        checkpoint: its `Checkpoint.id` or its ``bt://`` address.
        folder: where to; made if missing. Else it must be empty, or hold a download of this very checkpoint, which is
            then completed: whole files stay, partial ones are gone on with.
        parallel: most files at the same time.
        only: names of the files that are wanted now; a later download brings the others.
        on_progress: called with the bytes that are there and the bytes there will be.

    Returns:
        The paths of the files, in the service's order.

    Raises:
        InvalidInputError: an argument is wrong, or `folder` holds something else; nothing was downloaded.
        NotFoundError: there is no such checkpoint.
        UnsupportedError: its files are kept where presigned addresses do not lead.
        ProtocolError: the service named a file outside the folder, or one of another size than announced; a file has
            come with another content than its server says, or is no whole safetensors file.
        LoopsError: a file could not be had or not be written; asking again goes on from there.
    """
    check_int("parallel", parallel, low=1)
    _check_folder(folder)
    checkpoint_id = await id_of(control, checkpoint)
    await _require_files(control, checkpoint_id)
    files = await list_files(control, checkpoint_id)
    check_names(files)
    place = CheckpointFolder(folder, checkpoint_id, files)
    await asyncio.to_thread(place.open)
    wanted = [file for file in files if only is None or file.relative_file_name in only]
    with waiting(control.caller.emit, "download_checkpoint", f"files of {checkpoint}") as wait:
        await _Downloads(control, place, wanted, _told(wait, on_progress)).run(parallel)
    return [place.path(file) for file in wanted]


def _told(wait: Waiting, on_progress: Progress | None) -> Progress:
    """Whoever wants to hear of bytes, as one."""

    def hears(there: int, total: int) -> None:
        wait.counted(there, total)
        if on_progress is not None:
            on_progress(there, total)

    return hears


def _check_folder(folder: object) -> None:
    if not (isinstance(folder, str | Path) and str(folder)):
        raise InvalidInputError(f"folder: expected a path, got {shown(folder)}")


async def id_of(control: ControlPlane, checkpoint: str) -> str:
    """The `Checkpoint.id` behind either name of a checkpoint.

    Raises:
        InvalidInputError: it is neither.
        NotFoundError: no checkpoint has this address.
        LoopsError: its files are not all stored yet.
    """
    path = address_of(checkpoint)
    if path is None:
        return checkpoint
    found = await control.checkpoint(str(path))
    if found.sync_status == "SYNCING":
        raise LoopsError(f"the files of {checkpoint} are still on their way to the store; ask again in a while")
    return found.id


async def list_files(control: ControlPlane, checkpoint_id: str) -> list[CheckpointFile]:
    """All files of a checkpoint, from as many pages as there are.

    Raises:
        ProtocolError: the pages do not end, or do not hold as many files as the service counts.
    """
    files: list[CheckpointFile] = []
    token = 0
    while True:
        page = await archive_url(control, checkpoint_id, page_token=token)
        files += page.presigned_urls
        following = page.next_page_token
        if following is None and page.total_count in (0, len(files)):
            return files
        if following is None or not page.presigned_urls or following <= token or len(files) > page.total_count > 0:
            counted = f"{page.total_count} files; after {len(files)} of them it names page {following} as the next"
            raise ProtocolError(f"checkpoint {checkpoint_id}: the service counts {counted}")
        token = following


async def _require_files(control: ControlPlane, checkpoint_id: str) -> None:
    """Refuse a checkpoint whose files have no presigned addresses. A service that does not tell has them."""
    try:
        source = await control.source(checkpoint_id)
    except StatusError as error:
        if error.status not in (404, 405, 501):
            raise
        return
    if source.kind == "volume":
        where = f"directory {source.path!r} of the volume {source.volume_ref!r}"
        raise UnsupportedError(
            f"the files of {checkpoint_id} are in {where} and have no addresses to download them from: "
            f"mount or pull that volume instead"
        )
    if source.kind != "s3":
        raise UnsupportedError(
            f"the files of {checkpoint_id} are kept in a {source.kind!r}, which this version cannot read"
        )


class _Downloads:
    """The files of one folder on their way, a few at a time."""

    def __init__(
        self,
        control: ControlPlane,
        place: CheckpointFolder,
        wanted: list[CheckpointFile],
        on_progress: Progress | None,
    ) -> None:
        self._control, self._place, self._on_progress = control, place, on_progress
        self._there = {file.relative_file_name: file.size_bytes for file in wanted}
        self._done = self._total = sum(self._there.values())

    async def run(self, parallel: int) -> None:
        missing = await asyncio.to_thread(self._place.missing, self._there)
        await asyncio.to_thread(self._place.require_room, [file for _, file in missing])
        for _, file in missing:
            self._done -= file.size_bytes
            self._there[file.relative_file_name] = 0
        waiting = iter(missing)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(parallel, len(missing))):
                    group.create_task(self._work(waiting))
        except ExceptionGroup as failures:  # one is enough to say: the others were cancelled or echo it
            raise failures.exceptions[0] from failures.exceptions[0].__cause__

    async def _work(self, waiting: Iterator[tuple[int, CheckpointFile]]) -> None:
        for index, file in waiting:
            await Download(
                self._control.caller,
                file.relative_file_name,
                file.url,
                self._place.path(file),
                file.size_bytes,
                self._fresh(index, file),
                self._counter(file.relative_file_name),
            ).run()
            await asyncio.to_thread(self._place.verify, file)

    def _fresh(self, index: int, file: CheckpointFile) -> Callable[[], Awaitable[str]]:
        """Addresses live for minutes, a large checkpoint takes longer: the file's own is asked for when it is too old.
        A page token is an offset, so one file is a page.
        """

        async def renew() -> str:
            page = await archive_url(self._control, self._place.record.checkpoint, 1, index)
            for one in page.presigned_urls:
                if attrs.evolve(one, url=file.url) == file:
                    return one.url
            raise ProtocolError(
                f"the files of the checkpoint have changed while {file.relative_file_name} was on its way"
            )

        return renew

    def _counter(self, name: str) -> Callable[[int], None]:
        def there(count: int) -> None:
            self._done += count - self._there[name]
            self._there[name] = count
            if self._on_progress is not None:
                self._on_progress(self._done, self._total)

        return there
