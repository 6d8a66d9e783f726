"""The namespace of the Tinker SDK over the clients of this package."""

from loops_sdk_sync.tinker.loader import install, uninstall

__all__ = ["install", "uninstall"]
