"""What `loops doctor` looks at: the way to the service, and this machine. It prints nothing and changes nothing."""

from loops_sdk.cli.checkup.findings import Finding, State, found
from loops_sdk.cli.checkup.machine import machine
from loops_sdk.cli.checkup.service import service

__all__ = ["Finding", "State", "found", "machine", "service"]
