"""Loading a base model, and making sure of what the engines rely on: it is causal, its head is what `Head` computes.

Whatever an architecture does differently is found by running a few tokens, and then refused by name.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine.datums import Limits
from loops_sdk.local.engine.torch_engine.heads import Head
from loops_sdk.local.engine.torch_engine.linears import Linears
from loops_sdk.local.engine.torch_engine.sources import quiet, resolve

__all__ = ["BaseModel", "load", "placement"]

_CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")
#: Longest sequence for architectures whose configuration names none.
_UNSTATED_CONTEXT = 2048

#: How far two ways to the same logits may differ, relative to the largest one.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


@attrs.frozen(eq=False)
class BaseModel:
    """A causal language model with frozen weights, in evaluation mode, on its device.

    Attributes:
        name: the base model as the caller named it.
        path: the folder or hub id from which `AutoTokenizer.from_pretrained` and `AutoModelForCausalLM` load it.
        model: float32 on a CPU, bfloat16 on a GPU.
        head: its last layer.
        linears: the layers that an adapter can be put on.
        limits: context and vocabulary.
        fingerprint: hash of a sample of the weights; the same wherever the model lies and in either type.
    """

    name: str
    path: str
    model: PreTrainedModel
    head: Head
    linears: Linears
    limits: Limits
    fingerprint: str

    @property
    def backbone(self) -> nn.Module:
        """The model without its head."""
        return self.model.base_model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device


def load(base_model: str, *, cache_dir: Path, max_seq_len: int | None = None) -> BaseModel:
    """Load a base model onto the GPU if there is one, else onto the CPU. No code from the model's folder is run, and
    nothing is unpickled: its weights must be safetensors.

    Args:
        base_model: ``"loops/tiny"``, a folder, a ``.gguf`` file or a hub id.
        cache_dir: where converted GGUF files are kept.
        max_seq_len: longest sequence to accept, in tokens; default: the model's context.

    Raises:
        InvalidInputError: no such model, no causal language model, an architecture whose head is not understood, or a
            `max_seq_len` beyond the model's context.
        ConnectionFailedError: a hub id that is not cached while the hub cannot be reached.
    """
    path = resolve(base_model, cache_dir)
    device, dtype = placement()
    with quiet():
        model: Any = _read(path, base_model, dtype)
    model.requires_grad_(False).eval().to(device)
    head = Head.of(model)
    _probe(model, head)
    limits = Limits(
        _context(model.config, max_seq_len), model.get_input_embeddings().weight.shape[0], head.weight.shape[0]
    )
    return BaseModel(base_model, path, model, head, Linears.of(model), limits, _fingerprint(model))


def placement() -> tuple[torch.device, torch.dtype]:
    """Where a base model goes, and as what: bfloat16 on the GPU if there is one, else float32 on the CPU. Adapters are
    float32 on both.
    """
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16
    return torch.device("cpu"), torch.float32


def _read(path: str, base_model: str, dtype: torch.dtype) -> Any:
    local = Path(path).is_dir()
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=local)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,  # the other format is pickle, which runs what it likes
            local_files_only=local,
            output_loading_info=True,
        )
    except Exception as error:  # broken files can fail anywhere in the readers, with classes of their own
        raise InvalidInputError(
            f"base_model: {base_model!r} cannot be loaded as a causal language model ({_first_line(error)})"
        ) from error
    model, report = loaded
    if report["missing_keys"]:
        raise InvalidInputError(
            f"base_model: {base_model!r} has no weights for {sorted(report['missing_keys'])[0]!r}: "
            f"it is no causal language model, or it is incomplete"
        )
    return model


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _context(config: PreTrainedConfig, wanted: int | None) -> int:
    text = config.get_text_config()
    stated = [value for name in _CONTEXT_FIELDS if (value := getattr(text, name, None))]
    context = int(stated[0]) if stated else _UNSTATED_CONTEXT
    if wanted is not None and not 1 <= wanted <= (context if stated else wanted):
        raise InvalidInputError(f"max_seq_len: expected 1 to {context}, the model's context, got {wanted}")
    return context if wanted is None else wanted


@torch.inference_mode()
def _probe(model: Any, head: Head) -> None:
    name, size = type(model).__name__, model.get_input_embeddings().weight.shape[0]
    tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=head.weight.device) % size
    hidden: Tensor = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    if not agree(hidden[0, :3], hidden[1, :3]):
        raise InvalidInputError(f"base_model: {name} is not causal, a position sees what comes after it")
    own: Tensor = model(input_ids=tokens, use_cache=False).logits
    if not agree(own, head.logits(hidden, None)):
        raise InvalidInputError(f"base_model: {name} turns hidden states into logits in a way that is not supported")


def agree(left: Tensor, right: Tensor) -> bool:
    """Whether two ways of computing the same thing gave the same, within what the type of `left` can tell."""
    scale = float(left.float().abs().max())
    return bool((left.float() - right.float()).abs().max() <= _TOLERANCE[left.dtype] * scale)


def _fingerprint(model: PreTrainedModel) -> str:
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, weight in sorted(model.named_parameters()):
        sample = weight.detach().reshape(-1)[:64].to(torch.bfloat16).view(torch.int16).cpu()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()
