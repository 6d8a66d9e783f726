"""The sampler's server: an OpenAI-style completions API over a generation engine that follows a run's live adapter."""

from loops_sdk.local.sampler.server import Sampler

__all__ = ["Sampler"]
