"""The control plane's server: sessions, runs, samplers, checkpoints, capabilities."""

from loops_sdk.local.control_plane.launcher import Deployed, Full, Launcher, State
from loops_sdk.local.control_plane.server import ControlPlane

__all__ = ["ControlPlane", "Deployed", "Full", "Launcher", "State"]
