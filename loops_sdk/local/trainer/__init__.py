"""The trainer's server, and what it keeps on the disk so that it can be killed at any instant."""

from loops_sdk.local.trainer.server import Trainer

__all__ = ["Trainer"]
