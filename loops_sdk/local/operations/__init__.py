"""The trainer's queue: operations one at a time, in order of arrival, each known by an id and by its key."""

from loops_sdk.local.operations.journal import Journal, State
from loops_sdk.local.operations.outcomes import in_json, success
from loops_sdk.local.operations.queue import Done, Operations
from loops_sdk.local.operations.records import Bounds, Told

__all__ = ["Bounds", "Done", "Journal", "Operations", "State", "Told", "in_json", "success"]
