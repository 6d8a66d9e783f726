"""The data directory of a deployment: records, checkpoints, and the pointer to each run's live adapter."""

from loops_sdk.local.storage.directory import Storage
from loops_sdk.local.storage.files import detach_and_remove, new_id
from loops_sdk.local.storage.records import (
    Live,
    RunRecord,
    SamplerRecord,
    Saved,
    SavedFile,
    TeamRecord,
    checkpoint_path,
)

__all__ = [
    "Live",
    "RunRecord",
    "SamplerRecord",
    "Saved",
    "SavedFile",
    "Storage",
    "TeamRecord",
    "checkpoint_path",
    "detach_and_remove",
    "new_id",
]
