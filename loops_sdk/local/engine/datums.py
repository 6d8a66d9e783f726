"""From `Datum` to flat columns, and what is refused on the way. Knows sizes of a model, but no model and no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import losses
from loops_sdk.types import Datum, ImageChunk, TensorData
from loops_sdk.types._checks import nearest

__all__ = ["IGNORED", "Columns", "Limits", "check", "columns", "foreign"]

#: As a target: "do not score this position".
IGNORED = -100

_DTYPES: Mapping[str, str] = {
    "target_tokens": "int64",
    "weights": "float32",
    "mask": "float32",
    "logprobs": "float32",
    "advantages": "float32",
    "clip_low_threshold": "float32",
    "clip_high_threshold": "float32",
}

_MEANT: Mapping[str, str] = {
    "target_tokens": "the token to predict at each position",
    "logprobs": "what the policy that sampled gave each target, SampledSequence.logprobs, and 0.0 for the prompt's",
    "advantages": "how much better than expected each target did, and 0.0 for the prompt's",
}


@attrs.frozen
class Limits:
    """What a model can take.

    Attributes:
        max_seq_len: longest sequence in tokens.
        vocab_size: number of token ids that the model reads.
        num_outputs: number of token ids that the model scores.
    """

    max_seq_len: int
    vocab_size: int
    num_outputs: int


def check(data: Sequence[Datum], loss_fn: str, config: Mapping[str, Any] | None, limits: Limits) -> None:
    """Refuse what no engine could compute.

    Inputs that another loss would use are accepted and play no part, so one data set serves `forward` with
    ``cross_entropy`` and an RL loss alike. Names that no loss knows are refused, and so are per-token thresholds for a
    loss that has none.

    Raises:
        InvalidInputError: naming the datum and the input.
    """
    loss = losses.find(loss_fn)
    losses.settings(loss_fn, config)
    if not data:
        raise InvalidInputError("data: expected at least one datum, got none")
    for index, datum in enumerate(data):
        _check_tokens(datum, f"data[{index}].model_input", limits)
        _check_inputs(datum.loss_fn_inputs, f"data[{index}]", loss_fn, loss)
        _check_targets(datum.loss_fn_inputs, f"data[{index}].loss_fn_inputs['target_tokens']", limits)


def _check_tokens(datum: Datum, where: str, limits: Limits) -> None:
    for index, chunk in enumerate(datum.model_input.chunks):
        if isinstance(chunk, ImageChunk):
            raise InvalidInputError(f"{where}.chunks[{index}]: an image, but the model reads only text")
        if chunk.tokens.size and int(chunk.tokens.max()) >= limits.vocab_size:
            raise InvalidInputError(f"{where}.chunks[{index}]: {foreign(int(chunk.tokens.max()), limits.vocab_size)}")
    length = datum.model_input.length
    if not 1 <= length <= limits.max_seq_len:
        way = f"; cut it (tokens[:{limits.max_seq_len}]) or make several datums of it" if length else ""
        raise InvalidInputError(f"{where}: expected 1 to {limits.max_seq_len} tokens, got {length}{way}")


def foreign(token: int, vocab_size: int) -> str:
    """What is said of a token id that the model does not have."""
    return f"token id {token} is outside the vocabulary of {vocab_size}; is the tokenizer that of this base model?"


def _check_inputs(given: Mapping[str, TensorData], where: str, loss_fn: str, loss: losses.Loss) -> None:
    for name in loss.required:
        if name not in given:
            raise InvalidInputError(f"{where}.loss_fn_inputs[{name!r}]: missing, {loss_fn} needs it: {_MEANT[name]}")
    for name, tensor in given.items():
        place = f"{where}.loss_fn_inputs[{name!r}]"
        if name not in _DTYPES:
            known = f"known: {', '.join(_DTYPES)}"
            raise InvalidInputError(f"{place}: no loss has such an input ({known}){nearest(name, _DTYPES)}")
        if name.startswith("clip_") and name not in loss.per_token:
            raise InvalidInputError(f"{place}: {loss_fn} has no such threshold")
        if tensor.dtype != _DTYPES[name]:
            way = "plain lists and arrays get it by themselves"
            raise InvalidInputError(f"{place}: expected dtype {_DTYPES[name]}, got {tensor.dtype}; {way}")
        if len(tensor.shape) != 1:
            raise InvalidInputError(f"{place}: expected one value per position, got shape {list(tensor.shape)}")


def _check_targets(given: Mapping[str, TensorData], where: str, limits: Limits) -> None:
    if "target_tokens" not in given:
        return
    targets = given["target_tokens"].data
    wrong = targets[(targets != IGNORED) & ((targets < 0) | (targets >= limits.num_outputs))]
    if wrong.size:
        raise InvalidInputError(
            f"{where}: {int(wrong[0])} is neither {IGNORED} nor a token id below {limits.num_outputs}"
        )


@attrs.frozen
class Columns:
    """One datum, or several after each other, as arrays with one value per position.

    Attributes:
        tokens: what the model reads, int64.
        targets: what it is asked about, int64; 0 where nothing is asked.
        kept: True where the target counts: not ``-100``, not masked out.
        scale: factor of loss and gradient, weights times mask, float32; 0 where not kept.
        live: True where loss or gradient can differ from 0.
        given: the inputs of the loss, float32.
    """

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    kept: NDArray[np.bool_]
    scale: NDArray[np.float32]
    live: NDArray[np.bool_]
    given: dict[str, NDArray[np.float32]]


def columns(data: Sequence[Datum], loss_fn: str, config: Mapping[str, Any]) -> Columns:
    """The columns of checked datums one after another. `config` is what `losses.settings` gave."""
    parts = [_columns(datum, losses.LOSSES[loss_fn], config) for datum in data]
    if len(parts) == 1:
        return parts[0]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("tokens", "targets", "kept", "scale", "live")
    }
    given = {name: np.concatenate([part.given[name] for part in parts]) for name in parts[0].given}
    return Columns(**joined, given=given)


def _columns(datum: Datum, loss: losses.Loss, config: Mapping[str, Any]) -> Columns:
    tokens = np.concatenate([chunk.tokens for chunk in datum.model_input.chunks if not isinstance(chunk, ImageChunk)])
    inputs = {name: tensor.data for name, tensor in datum.loss_fn_inputs.items()}
    targets = inputs.get("target_tokens")
    if targets is None:
        targets = np.append(tokens[1:], IGNORED)
    mask = inputs.get("mask", np.ones(tokens.size, np.float32))
    kept = (targets != IGNORED) & (mask != 0)
    scale = np.where(kept, inputs.get("weights", np.float32(1)) * mask, 0).astype(np.float32)
    live = kept & (scale != 0) & ((inputs["advantages"] != 0) if loss.needs_advantage else True)
    return Columns(tokens, np.where(kept, targets, 0), kept, scale, live, _given(inputs, tokens.size, loss, config))


def _given(
    inputs: Mapping[str, NDArray[Any]], size: int, loss: losses.Loss, config: Mapping[str, Any]
) -> dict[str, NDArray[np.float32]]:
    given = {name: inputs[name] for name in loss.required if name != "target_tokens"}
    for name in loss.per_token:
        given[name] = inputs[name] if name in inputs else np.full(size, config[name], np.float32)
    return given
