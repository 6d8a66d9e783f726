"""Engines: what a trainer and a sampler drive. This page is the contract; the torch engine behind it is loaded by the stack."""

from loops_sdk.local.engine.protocol import (
    AdapterConfig,
    GenerationEngine,
    GenerationRequest,
    Generation,
    TrainingEngine,
)

__all__ = ["AdapterConfig", "Generation", "GenerationEngine", "GenerationRequest", "TrainingEngine"]
