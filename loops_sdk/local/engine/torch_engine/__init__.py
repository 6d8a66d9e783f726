"""The torch engines. Calling these loads torch and transformers, and peft for training; who can do without must not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loops_sdk.local.engine.torch_engine.generation import TorchGenerationEngine
    from loops_sdk.local.engine.torch_engine.training import TorchTrainingEngine

__all__ = ["MAX_ROWS", "load_generation_engine", "load_training_engine"]

#: Continuations that are decoded together by default.
MAX_ROWS = 64


def load_training_engine(base_model: str, *, cache_dir: Path, max_seq_len: int | None = None) -> TorchTrainingEngine:
    """A training engine over a base model, with a fresh adapter of the default configuration.

    Args:
        base_model: ``"loops/tiny"``, a folder, a ``.gguf`` file or a hub id.
        cache_dir: where converted GGUF files are kept.
        max_seq_len: longest sequence to accept, in tokens; default: the model's context.

    Raises:
        InvalidInputError: no such model, or one that cannot be trained; see `models.load`.
        ConnectionFailedError: a hub id that is not cached while the hub cannot be reached.
    """
    from loops_sdk.local.engine.torch_engine.models import load
    from loops_sdk.local.engine.torch_engine.training import TorchTrainingEngine

    return TorchTrainingEngine(load(base_model, cache_dir=cache_dir, max_seq_len=max_seq_len))


def load_generation_engine(base_model: str, *, cache_dir: Path, max_rows: int = MAX_ROWS) -> TorchGenerationEngine:
    """A generation engine over a base model, with no adapter loaded.

    Args:
        base_model: ``"loops/tiny"``, a folder, a ``.gguf`` file or a hub id.
        cache_dir: where converted GGUF files are kept.
        max_rows: continuations that are decoded together; more wait in the order in which they came.

    Raises:
        InvalidInputError: no such model, or one that cannot be sampled from; see `models.load`.
        ConnectionFailedError: a hub id that is not cached while the hub cannot be reached.
    """
    from loops_sdk.local.engine.torch_engine.generation import TorchGenerationEngine
    from loops_sdk.local.engine.torch_engine.models import load

    return TorchGenerationEngine(load(base_model, cache_dir=cache_dir), max_rows=max_rows)
