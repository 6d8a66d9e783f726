"""Sampling, by the name under which scripts import it; all of it is that of `loops_sdk_sync`."""

from loops_sdk_sync import BasetenDeployment, Deployment, LocalDeployment, SamplingClient

__all__ = ["BasetenDeployment", "Deployment", "LocalDeployment", "SamplingClient"]
