"""The namespace of the Tinker SDK over both houses."""

from loops_sdk_sync.tinker.loader import install, uninstall

__all__ = ["install", "uninstall"]
