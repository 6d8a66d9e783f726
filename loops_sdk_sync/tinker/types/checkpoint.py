"""Checkpoints, and the ``tinker://`` paths under which scripts know them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from loops_sdk import CheckpointPath, InvalidInputError
from loops_sdk_sync.tinker.types._model import OpenModel

__all__ = [
    "Checkpoint",
    "CheckpointType",
    "CheckpointsListResponse",
    "Cursor",
    "ExternalWeightsUrlsResponse",
    "ParsedCheckpointTinkerPath",
]

CheckpointType: TypeAlias = Literal["training", "sampler", "external"]

#: What a checkpoint's kind is called in a path.
_TYPES: dict[str, CheckpointType] = {
    "weights": "training",
    "sampler_weights": "sampler",
    "external_weights": "external",
}


class Checkpoint(OpenModel):
    """A saved checkpoint.

    Attributes:
        checkpoint_id: ``weights/<name>`` or ``sampler_weights/<name>``.
        checkpoint_type: ``"training"`` (full training state), ``"sampler"`` (the adapter alone) or ``"external"``, of
            which Loops has none.
        time: when it was saved.
        tinker_path: ``tinker://<run_id>/<checkpoint_id>``.
        size_bytes: size of all its files.
        public: whether everybody may read it.
        user_metadata: what was noted down with it.
        expires_at: when it will be deleted; `None` means never.
    """

    checkpoint_id: str
    checkpoint_type: CheckpointType
    time: datetime
    tinker_path: str
    size_bytes: int | None = None
    public: bool = False
    user_metadata: dict[str, str] | None = None
    expires_at: datetime | None = None


class ParsedCheckpointTinkerPath(OpenModel):
    """The parts of a path.

    Attributes:
        tinker_path: ``tinker://<run_id>/<checkpoint_id>``.
        training_run_id: the run that saved the checkpoint.
        checkpoint_type: as in `Checkpoint`.
        checkpoint_id: as in `Checkpoint`.
    """

    tinker_path: str
    training_run_id: str
    checkpoint_type: CheckpointType
    checkpoint_id: str

    @classmethod
    def from_tinker_path(cls, tinker_path: str) -> ParsedCheckpointTinkerPath:
        """Take a path apart.

        Args:
            tinker_path: ``tinker://<run_id>/weights/<name>``, or with ``sampler_weights`` or ``external_weights``; an
                address of Loops, ``bt://loops:<run_id>/weights/<name>``, is understood, too.

        Raises:
            InvalidInputError: not a path of this form.
        """
        if tinker_path.startswith("bt://"):
            address = CheckpointPath.parse(tinker_path, "tinker_path")
            tinker_path = f"tinker://{address.run_id}/{address.kind}/{address.name}"
        run_id, kind, name = (*tinker_path.removeprefix("tinker://").split("/"), "", "")[:3]
        if kind not in _TYPES or tinker_path != f"tinker://{run_id}/{kind}/{name}":
            raise InvalidInputError(
                f"tinker_path: expected tinker://<run_id>/weights/<name> or tinker://<run_id>/sampler_weights/<name>, "
                f"got {tinker_path!r}"
            )
        return cls(
            tinker_path=tinker_path,
            training_run_id=run_id,
            checkpoint_type=_TYPES[kind],
            checkpoint_id=f"{kind}/{name}",
        )


class Cursor(OpenModel):
    """Where a page lies in a list.

    Attributes:
        offset: number of items before it.
        limit: most items that a page holds.
        total_count: number of items in all.
    """

    offset: int
    limit: int
    total_count: int


class CheckpointsListResponse(OpenModel):
    """A page of checkpoints.

    Attributes:
        checkpoints: those of this page.
        cursor: where it lies; `None` when it is the whole list.
    """

    checkpoints: list[Checkpoint]
    cursor: Cursor | None = None


class ExternalWeightsUrlsResponse(OpenModel):
    """Where the files of a checkpoint are to be had.

    Attributes:
        urls: presigned addresses by the file's path inside the checkpoint.
        expires: when they cease to work.
    """

    urls: dict[str, str]
    expires: datetime
