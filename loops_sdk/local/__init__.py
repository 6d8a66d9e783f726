"""The embedded deployment: real servers on loopback that speak the service's wire and really train and sample."""

from loops_sdk.local.stack import LocalStack

__all__ = ["LocalStack"]
