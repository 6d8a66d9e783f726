"""Checkpoints: their metadata, their files, and the ``bt://`` address under which weights are known."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

import attrs

from loops_sdk.errors import InvalidInputError
from loops_sdk.types._checks import shown
from loops_sdk.types._holding import few

__all__ = [
    "Checkpoint",
    "CheckpointFile",
    "CheckpointFilesResponse",
    "CheckpointPath",
    "CheckpointSource",
    "LoraConfig",
    "check_name",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_URI = re.compile(r"bt://loops:(?P<run_id>[^/]+)/(?P<kind>weights|sampler_weights)/(?P<name>[^/]+)")


def check_name(argument: str, value: object) -> str:
    """A checkpoint or run name: 1 to 255 of ``A-Z a-z 0-9 . _ -``, starting with a letter or digit."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidInputError(
            f"{argument}: expected 1 to 255 letters, digits, '.', '_' or '-', starting with a letter or digit; "
            f"got {shown(value)}"
        )
    return value


def _check_part(_instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    check_name(attribute.name, value)


def _check_kind(_instance: object, _attribute: object, value: object) -> None:
    if value not in ("weights", "sampler_weights"):
        raise InvalidInputError(f"kind: expected 'weights' or 'sampler_weights', got {shown(value)}")


@attrs.frozen
class CheckpointPath:
    """The parts of ``bt://loops:<run_id>/<kind>/<name>``.

    Attributes:
        run_id: the run that saved the checkpoint.
        kind: ``"weights"`` (full training state) or ``"sampler_weights"`` (the adapter alone).
        name: the name given when saving.
    """

    run_id: str = attrs.field(validator=_check_part)
    kind: Literal["weights", "sampler_weights"] = attrs.field(validator=_check_kind)
    name: str = attrs.field(validator=_check_part)

    @classmethod
    def parse(cls, path: object, argument: str = "path") -> CheckpointPath:
        """Take an address apart.

        Args:
            path: ``bt://loops:<run_id>/weights/<name>`` or ``bt://loops:<run_id>/sampler_weights/<name>``.
            argument: what an error calls it.

        Raises:
            InvalidInputError: not an address of this form.
        """
        match = _URI.fullmatch(path) if isinstance(path, str) else None
        if match is None:
            raise InvalidInputError(
                f"{argument}: expected bt://loops:<run_id>/weights/<name> or "
                f"bt://loops:<run_id>/sampler_weights/<name>, got {shown(path, 120)}"
            )
        kind: Literal["weights", "sampler_weights"] = "weights" if match["kind"] == "weights" else "sampler_weights"
        return cls(check_name(argument, match["run_id"]), kind, check_name(argument, match["name"]))

    def __str__(self) -> str:
        return f"bt://loops:{self.run_id}/{self.kind}/{self.name}"


@attrs.frozen
class LoraConfig:
    """Which parts of the model a checkpoint's adapter changes. `None` in a `Checkpoint` means it cannot be loaded.

    Attributes:
        config_version: version of this description's own format.
        targets: names of the modules that have an adapter.
        expert_layout: how the adapters of a mixture of experts are laid out; `None` where there are no experts.
    """

    config_version: str
    targets: list[str] = attrs.field(repr=few)
    expert_layout: str | None = None


@attrs.frozen
class Checkpoint:
    """A saved checkpoint.

    Attributes:
        id: the service's unique id, used in paths of the HTTP API.
        checkpoint_id: the name given when saving; the same name may exist once per target.
        run_id: the run that saved it.
        target: ``"trainer"`` (full training state) or ``"sampler"`` (the adapter alone).
        checkpoint_type: for example ``"lora"``.
        base_model: name of the base model.
        size_bytes: size of all its files.
        created_at: when it was saved, with time zone.
        lora_adapter_config: the adapter's own configuration.
        lora_config: which layers it changes.
        sync_status: ``"SYNCING"`` or ``"COMPLETE"``; `None` counts as complete.
    """

    id: str
    checkpoint_id: str
    run_id: str
    target: str
    checkpoint_type: str
    base_model: str | None
    size_bytes: int
    created_at: datetime
    lora_adapter_config: dict[str, Any] | None = None
    lora_config: LoraConfig | None = None
    sync_status: str | None = None

    def __hash__(self) -> int:
        """By id: the configuration, a plain dict, has no hash."""
        return hash(self.id)

    @property
    def path(self) -> str:
        """The address that `load_state` or `create_sampling_client` takes."""
        kind: Literal["weights", "sampler_weights"] = "sampler_weights" if self.target == "sampler" else "weights"
        return str(CheckpointPath(self.run_id, kind, self.checkpoint_id))


@attrs.frozen
class CheckpointFile:
    """One file of a checkpoint.

    Attributes:
        url: where to download it from. It is presigned and short-lived: it needs no key and must be given none.
        relative_file_name: its path inside the checkpoint's folder.
        node_rank: which machine of the trainer wrote it, counted from 0.
        size_bytes: its size.
        last_modified: when it was written, as the storage says it (ISO 8601).
    """

    url: str = attrs.field(repr=False)
    relative_file_name: str
    node_rank: int
    size_bytes: int
    last_modified: str


@attrs.frozen
class CheckpointFilesResponse:
    """One page of a checkpoint's files.

    Attributes:
        presigned_urls: the files of this page.
        next_page_token: offset of the next page, `None` on the last.
        total_count: number of files in all.
    """

    presigned_urls: list[CheckpointFile] = attrs.field(repr=few)
    next_page_token: int | None = None
    total_count: int = 0


@attrs.frozen
class CheckpointSource:
    """Where a checkpoint's files are to be had. `kind` is ``"s3"`` (presigned addresses) or ``"volume"`` (directory
    `path` of the volume `volume_ref`); new kinds may appear.
    """

    kind: str
    volume_ref: str | None = None
    path: str | None = None
