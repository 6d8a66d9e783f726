"""What a base model with an adapter in it consists of: which tensor gets which LoRA pair, and whether they fit.

It reads names, shapes and the configuration; it opens no weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine.peft_folder import Pair, PeftFolder
from loops_sdk.local.engine.torch_engine.base_files import BaseFiles, Stored
from loops_sdk.local.engine.torch_engine.linears import head_path

__all__ = ["DTYPES", "Plan", "Result", "plan"]

#: Types that the result may have, with what safetensors calls them.
DTYPES: Mapping[str, tuple[torch.dtype, str]] = {
    "float32": (torch.float32, "F32"),
    "bfloat16": (torch.bfloat16, "BF16"),
    "float16": (torch.float16, "F16"),
}


@attrs.frozen
class Result:
    """One tensor of the result: that of the base model called `source`, with the pair added where there is one.

    Attributes:
        stored: what is written: shape and type.
        transposed: whether the layer keeps its weight as ``[inputs, outputs]``.
    """

    source: str
    stored: Stored
    pair: Pair | None = None
    transposed: bool = False


@attrs.frozen
class Plan:
    """All tensors of the result, by their names in it.

    Attributes:
        untied: the head has got a tensor of its own; in the base model it shares that of the embedding.
    """

    results: Mapping[str, Result]
    untied: bool

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(one.stored.size_bytes for one in self.results.values())


def plan(adapter: PeftFolder, base: BaseFiles, dtype: str | None) -> Plan:
    """What the base model with the adapter in it consists of.

    Args:
        dtype: what it is cast to, a key of `DTYPES`; `None`: nothing is.

    Raises:
        InvalidInputError: the adapter changes a layer that the base model has not, or has in another shape or type; no
            such dtype.
    """
    if dtype is not None and dtype not in DTYPES:
        raise InvalidInputError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    if base.config.get("quantization_config"):
        raise InvalidInputError(
            f"base_model: {base.folder} is quantized, and an adapter cannot be added to that: give the model that it "
            f"was made from"
        )
    layout = _Layout.of(base)
    results = {name: Result(name, _stored(one, dtype)) for name, one in base.tensors.items()}
    for layer, pair in adapter.pairs.items():
        source = layout.embedding if layer == layout.tied_head else _weight_of(layer, base.tensors)
        if source is None:
            raise InvalidInputError(f"base_model: {base.folder} has no layer {layer}, which the adapter changes")
        result = Result(source, results[source].stored, pair, layer in layout.transposed)
        _require_fit(layer, result)
        results[f"{layer}.weight" if layer == layout.tied_head else source] = result
    return Plan(results, layout.tied_head in adapter.pairs)


def _stored(one: Stored, dtype: str | None) -> Stored:
    return one if dtype is None or not one.is_float else attrs.evolve(one, dtype=DTYPES[dtype][1])


def _weight_of(layer: str, tensors: Mapping[str, Stored]) -> str | None:
    """The weight of a layer; some models leave the first part of all names out."""
    names = (f"{layer}.weight", f"{layer.partition('.')[2]}.weight")
    return next((name for name in names if name in tensors), None)


def _require_fit(layer: str, result: Result) -> None:
    assert result.pair is not None
    shape = (result.pair.outputs, result.pair.inputs)
    expected = shape[::-1] if result.transposed else shape
    if result.stored.shape != expected:
        raise InvalidInputError(
            f"base_model: its layer {layer} has a weight of shape {list(result.stored.shape)}, the adapter is for one "
            f"of {list(expected)}: it was trained on another base model"
        )
    if not result.stored.is_float:
        raise InvalidInputError(
            f"base_model: its layer {layer} is of the type {result.stored.dtype}, which an adapter cannot be added to"
        )


@attrs.frozen
class _Layout:
    """What the names and shapes of a base model's tensors do not tell.

    Attributes:
        transposed: layers that keep their weight as ``[inputs, outputs]``.
        tied_head: path of the head, where it shares its weight with the embedding.
        embedding: name of the tensor that it shares.
    """

    transposed: frozenset[str]
    tied_head: str | None = None
    embedding: str | None = None

    @classmethod
    def of(cls, base: BaseFiles) -> _Layout:
        model = _skeleton(base)
        modules = dict(model.named_modules())
        transposed = frozenset(path for path, module in modules.items() if isinstance(module, Conv1D))
        if not getattr(model.config, "tie_word_embeddings", False):
            return cls(transposed)
        embedding = next(path for path, module in modules.items() if module is model.get_input_embeddings())
        return cls(transposed, head_path(model), _weight_of(embedding, base.tensors))


def _skeleton(base: BaseFiles) -> PreTrainedModel:
    """The model without its weights."""
    try:
        config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    except Exception as error:  # a broken configuration can fail anywhere in the readers
        raise InvalidInputError(f"base_model: {base.folder} is no causal language model ({error})") from error
    return model
