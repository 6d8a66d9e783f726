"""Tokenizers by the name of their base model: loaded once per process, in a thread, without the network where
possible.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loops_sdk.errors import InvalidInputError
from loops_sdk.instrumentation import Emit
from loops_sdk.instrumentation.waiting import waiting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: The base model that ships with this package.
_SHIPPED = {"loops/tiny": Path(__file__).parents[1] / "local" / "engine" / "tiny" / "weights"}

_loaded: dict[str, PreTrainedTokenizerBase] = {}
_lock = threading.Lock()


async def tokenizer_of(base_model: str, emit: Emit) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub id, a local folder, a GGUF file, or a model that ships with this package. No code that
    comes with a tokenizer is run.

    Args:
        emit: what is told of the wait; the first one takes as long as importing transformers, or as a download.

    Raises:
        InvalidInputError: there is no tokenizer under this name, or the hub cannot be reached.
    """
    if (known := _loaded.get(base_model)) is not None:
        return known
    with waiting(emit, "get_tokenizer", f"tokenizer of {base_model}"):
        return await asyncio.to_thread(_load_once, base_model)


def _load_once(base_model: str) -> PreTrainedTokenizerBase:
    with _lock:
        if base_model not in _loaded:
            _loaded[base_model] = _load(base_model)
        return _loaded[base_model]


def _load(base_model: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    name, options = _source(base_model)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"base_model: no tokenizer for {base_model!r}: expected a Hugging Face id, a local folder, a .gguf file "
            f"or {', '.join(_SHIPPED)} ({error})"
        ) from error
    return tokenizer


def _source(base_model: str) -> tuple[str, dict[str, Any]]:
    if base_model in _SHIPPED:
        return str(_SHIPPED[base_model]), {}
    if base_model.endswith(".gguf"):
        path = Path(base_model)
        return str(path.parent), {"gguf_file": path.name}
    return base_model, {}
