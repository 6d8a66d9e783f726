"""The files of a checkpoint: one page of presigned addresses, each at the host where it can be fetched.

It decides what a checkpoint may be called and which addresses of S3 must name a region. Fetching is the caller's.
"""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, urlsplit

import attrs

from loops_sdk._clients.control import ControlPlane
from loops_sdk.errors import InvalidInputError, NotFoundError
from loops_sdk.types import CheckpointFilesResponse, CheckpointPath
from loops_sdk.types._checks import check_int, shown
from loops_sdk.types.checkpoints import check_name

_S3_REGION = "S3_REGION"
_REGION = re.compile(r"[a-z]{2,3}(-[a-z]+)+-[0-9]{1,2}")
#: S3's global endpoint, which sends requests for buckets outside us-east-1 somewhere else; the bucket before it or not.
_GLOBAL = re.compile(r"(https?://(?:[a-z0-9][a-z0-9.-]*\.)?s3)(\.amazonaws\.com)(?=[:/?#]|$)", re.IGNORECASE)
#: Query parameters of a signature that covers the host (SigV4).
_SIGNS_HOST = {"x-amz-signedheaders", "x-amz-algorithm"}


async def archive_url(
    control: ControlPlane, checkpoint_id: str, page_size: int = 1000, page_token: int = 0
) -> CheckpointFilesResponse:
    """One page of a checkpoint's files with presigned addresses.

    Args:
        checkpoint_id: `Checkpoint.id`, or the checkpoint's ``bt://`` address, which is looked up first.
        page_size: most files in the reply, >= 1.
        page_token: how many files to skip, >= 0: the previous page's `next_page_token`.

    Raises:
        InvalidInputError: an argument or ``S3_REGION`` is wrong; nothing was sent.
        NotFoundError: there is no such checkpoint.
    """
    region = s3_region()
    check_int("page_size", page_size, low=1)
    check_int("page_token", page_token, low=0)
    path = address_of(checkpoint_id)
    found = checkpoint_id if path is None else (await control.checkpoint(str(path))).id
    try:
        page = await control.files(found, page_size=page_size, page_token=page_token)
    except NotFoundError as error:
        hint = f"{error.message}; checkpoint_id: expected Checkpoint.id or a bt:// address, not the checkpoint's name"
        raise NotFoundError(hint, **error.context()) from error
    return page if region is None else _in_region(page, region)


def address_of(checkpoint_id: str) -> CheckpointPath | None:
    """The address, when a checkpoint is called by that; `None` when it is called by its `Checkpoint.id`.

    Raises:
        InvalidInputError: it is neither.
    """
    if str(checkpoint_id).startswith("bt:"):
        return CheckpointPath.parse(checkpoint_id, "checkpoint_id")
    check_name("checkpoint_id", checkpoint_id)
    return None


def s3_region() -> str | None:
    """What ``S3_REGION`` says; `None` when it is not set.

    Raises:
        InvalidInputError: not of the form of a region.
    """
    region = os.environ.get(_S3_REGION) or None
    if region is not None and not _REGION.fullmatch(region):
        raise InvalidInputError(f"{_S3_REGION}: expected an AWS region like us-west-2, got {shown(region)}")
    return region


def regional(url: str, region: str) -> str:
    """A presigned address at the endpoint of the bucket's region; nothing but its host is changed.

    Only S3's global endpoint is replaced: from there, requests for buckets of other regions are redirected, and the
    redirect does not carry over. A signature that covers the host (SigV4) names its region already, and would break.
    """
    match = _GLOBAL.match(url)
    if match is None or any(name.lower() in _SIGNS_HOST for name, _ in parse_qsl(urlsplit(url).query, True)):
        return url
    return f"{match[1]}.{region}{match[2]}{url[match.end() :]}"


def _in_region(page: CheckpointFilesResponse, region: str) -> CheckpointFilesResponse:
    moved = [attrs.evolve(file, url=regional(file.url, region)) for file in page.presigned_urls]
    return attrs.evolve(page, presigned_urls=moved)
