"""The six losses as formulas over arrays: what each one needs, its settings and defaults, loss and gradient per token.

A formula is given the array library (numpy or torch) and knows no model, batch or device. `l` is the learner's
log-probability of the target, `b` the behaviour policy's, `A` the advantage; the caller applies masks and weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import attrs

from loops_sdk.errors import InvalidInputError
from loops_sdk.types._checks import nearest

__all__ = ["LOSSES", "Loss", "Terms", "find", "settings"]

#: Ratio bounds of the PPO clip, as absolute ratios (arXiv 1707.06347).
PPO_CLIP_LOW, PPO_CLIP_HIGH = 0.8, 1.2
#: Ratio bounds of the CISPO weight (arXiv 2506.13585).
CISPO_CLIP_LOW, CISPO_CLIP_HIGH = 0.0, 4.0
#: Strength of the quadratic pull of DRO (arXiv 2405.19107).
DRO_BETA = 0.05
#: Trust region of DPPO in total variation and in KL divergence (arXiv 2602.04879).
DPPO_TV_DELTA, DPPO_KL_DELTA = 0.2, 0.05
DPPO_TYPES = ("binary_tv", "binary_kl")

Array = Any  #: a numpy array or a torch tensor; the formulas use only what both have
Given = Mapping[str, Array]
Settings = Mapping[str, Any]


@attrs.frozen
class Terms:
    """One loss at every token.

    Attributes:
        loss: the loss.
        gradient: its derivative by the learner's log-probability.
        ratio: exp(l - b), where the loss uses it.
        clipped: True where the loss has cut the ratio off, for losses that do.
    """

    loss: Array
    gradient: Array
    ratio: Array | None = None
    clipped: Array | None = None


@attrs.frozen
class Loss:
    """What a loss needs.

    Attributes:
        terms: the formula: ``(array library, l, inputs, settings) -> Terms``.
        required: inputs that every datum must bring.
        defaults: settings with their defaults; a default of `None` depends on another setting.
        per_token: settings that may come per token, as an input of the same name.
        reports: fields of `Terms` that it fills beside loss and gradient.
        needs_advantage: True if a token with advantage 0 has loss 0, whatever its log-probability.
    """

    terms: Callable[[Any, Array, Given, Settings], Terms]
    required: tuple[str, ...] = ()
    defaults: Settings = MappingProxyType({})
    per_token: tuple[str, ...] = ()
    reports: tuple[Literal["ratio", "clipped"], ...] = ()
    needs_advantage: bool = False


def cross_entropy(xp: Any, logp: Array, given: Given, settings: Settings) -> Terms:
    """-l"""
    return Terms(-logp, -xp.ones_like(logp))


def importance_sampling(xp: Any, logp: Array, given: Given, settings: Settings) -> Terms:
    """-r A with r = exp(l - b)"""
    ratio = xp.exp(logp - given["logprobs"])
    loss = -ratio * given["advantages"]
    return Terms(loss, loss, ratio)


def ppo(xp: Any, logp: Array, given: Given, settings: Settings) -> Terms:
    """-min(r A, clip(r, low, high) A); no gradient where the clipped side is the smaller one"""
    ratio, advantages = xp.exp(logp - given["logprobs"]), given["advantages"]
    low, high = given["clip_low_threshold"], given["clip_high_threshold"]
    blocked = ((advantages > 0) & (ratio > high)) | ((advantages < 0) & (ratio < low))
    free = -ratio * advantages
    loss = xp.where(blocked, -xp.clip(ratio, low, high) * advantages, free)
    return Terms(loss, xp.where(blocked, xp.zeros_like(free), free), ratio, blocked)


def cispo(xp: Any, logp: Array, given: Given, settings: Settings) -> Terms:
    """-stop_gradient(clip(r, low, high)) A l"""
    ratio = xp.exp(logp - given["logprobs"])
    low, high = given["clip_low_threshold"], given["clip_high_threshold"]
    gradient = -xp.clip(ratio, low, high) * given["advantages"]
    return Terms(gradient * logp, gradient, ratio, (ratio < low) | (ratio > high))


def dro(xp: Any, logp: Array, given: Given, settings: Settings) -> Terms:
    """-(A l - beta/2 (l - b)^2)

    The quadratic pulls every token towards its `b`, also a padded one whose `b` is a placeholder of 0: only ``-100``
    targets or a `mask` keep such tokens out.
    """
    gap, advantages, beta = logp - given["logprobs"], given["advantages"], settings["beta"]
    return Terms(-(advantages * logp - 0.5 * beta * gap**2), -(advantages - beta * gap))


def dppo(xp: Any, logp: Array, given: Given, settings: Settings) -> Terms:
    """-M r A; M is 0 where the token leaves the trust region in the direction of its advantage"""
    behaviour, advantages = given["logprobs"], given["advantages"]
    new, old = xp.exp(logp), xp.exp(behaviour)
    binary_tv = settings["dppo_type"] == "binary_tv"
    distance = xp.abs(new - old) if binary_tv else _binary_kl(xp, logp, behaviour, new, old)
    up = (advantages > 0) & (new > old) & (distance > settings["delta_high"])
    down = (advantages < 0) & (new < old) & (distance > settings["delta_low"])
    ratio = xp.exp(logp - behaviour)
    free = -ratio * advantages
    loss = xp.where(up | down, xp.zeros_like(free), free)
    return Terms(loss, loss, ratio, up | down)


def _binary_kl(xp: Any, logp: Array, behaviour: Array, new: Array, old: Array) -> Array:
    """KL divergence of (target, anything else) from the old policy to the new one; the ends take their limits."""
    zero = xp.zeros_like(logp)
    taken = xp.where(old > 0, old * (behaviour - logp), zero)
    rest = xp.where(old < 1, (1 - old) * (xp.log1p(-old) - xp.log1p(-new)), zero)
    return taken + rest


_RL = ("target_tokens", "logprobs", "advantages")
_CLIP = ("clip_low_threshold", "clip_high_threshold")


def _clipping(terms: Callable[[Any, Array, Given, Settings], Terms], low: float, high: float) -> Loss:
    return Loss(terms, _RL, {_CLIP[0]: low, _CLIP[1]: high}, _CLIP, ("ratio", "clipped"), needs_advantage=True)


_DPPO_DEFAULTS: Settings = {"dppo_type": "binary_tv", "delta_low": None, "delta_high": None}

LOSSES: Mapping[str, Loss] = {
    "cross_entropy": Loss(cross_entropy),
    "importance_sampling": Loss(importance_sampling, _RL, reports=("ratio",), needs_advantage=True),
    "ppo": _clipping(ppo, PPO_CLIP_LOW, PPO_CLIP_HIGH),
    "cispo": _clipping(cispo, CISPO_CLIP_LOW, CISPO_CLIP_HIGH),
    "dro": Loss(dro, _RL, {"beta": DRO_BETA}),
    "dppo": Loss(dppo, _RL, _DPPO_DEFAULTS, reports=("ratio", "clipped"), needs_advantage=True),
}


def find(name: str) -> Loss:
    """The loss called `name`.

    Raises:
        InvalidInputError: there is none.
    """
    if name not in LOSSES:
        raise InvalidInputError(f"loss_fn: expected one of {', '.join(LOSSES)}, got {name!r}{nearest(name, LOSSES)}")
    return LOSSES[name]


def settings(name: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """`config` over the defaults of the loss called `name`.

    Raises:
        InvalidInputError: an unknown key, a value that is not a finite number >= 0, an unknown `dppo_type`, or a lower
            clip threshold above the upper one.
    """
    result = dict(find(name).defaults)
    for key, value in (config or {}).items():
        if key not in result:
            known = ", ".join(result) or "none"
            text = f"loss_fn_config[{key!r}]: {name} has no such setting (it has: {known}){nearest(key, result)}"
            raise InvalidInputError(text)
        result[key] = _checked(key, value)
    _fill_dppo(result)
    if result.get("clip_low_threshold", 0.0) > result.get("clip_high_threshold", math.inf):
        raise InvalidInputError(
            f"loss_fn_config['clip_low_threshold']: {result['clip_low_threshold']} is above "
            f"clip_high_threshold {result['clip_high_threshold']}"
        )
    return result


def _checked(key: str, value: Any) -> Any:
    if key == "dppo_type":
        if value not in DPPO_TYPES:
            raise InvalidInputError(f"loss_fn_config['dppo_type']: expected one of {DPPO_TYPES}, got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise InvalidInputError(f"loss_fn_config[{key!r}]: expected a finite number >= 0, got {value!r}")
    return float(value)


def _fill_dppo(result: dict[str, Any]) -> None:
    delta = DPPO_KL_DELTA if result.get("dppo_type") == "binary_kl" else DPPO_TV_DELTA
    for key in ("delta_low", "delta_high"):
        if key in result and result[key] is None:
            result[key] = delta
