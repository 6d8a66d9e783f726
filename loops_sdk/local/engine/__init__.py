"""Engines: what a trainer and a sampler drive. This page is the contract; only the stack loads what fulfils it."""

from loops_sdk.local.engine.protocol import (
    MOST_RANK,
    AdapterConfig,
    Generation,
    GenerationEngine,
    GenerationRequest,
    TrainingEngine,
)

__all__ = ["MOST_RANK", "AdapterConfig", "Generation", "GenerationEngine", "GenerationRequest", "TrainingEngine"]
