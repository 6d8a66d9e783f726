"""The formulas against the published golden vector, against autograd in float64, and against each other's arrays."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loops_sdk import LossFn
from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import losses

LOGPROBS = [-0.5, -1.0, -2.0, -0.1]
BEHAVIOUR = [-0.7, -0.6, -2.0, -1.4]
ADVANTAGES = [1.0, -1.0, 0.5, 2.0]
WEIGHTS = [0.0, 1.0, 1.0, 0.5]

GOLDEN: list[tuple[str, dict[str, Any], list[float], float]] = [
    ("importance_sampling", {}, [-1.221403, 0.670320, -0.5, -7.338593], -8.389676),
    ("ppo", {}, [-1.2, 0.8, -0.5, -2.4], -3.3),
    ("cispo", {}, [0.610701, -0.670320, 1.0, 0.733859], 1.674241),
    ("dro", {}, [0.501, -0.996, 1.0, 0.24225], 0.74725),
    ("dppo", {}, [-1.221403, 0.670320, -0.5, 0.0], -1.051083),
    ("dppo", {"dppo_type": "binary_kl"}, [-1.221403, 0.0, -0.5, 0.0], -1.721403),
]


def test_the_losses_are_those_that_clients_may_name() -> None:
    assert set(losses.LOSSES) == set(get_args(LossFn))


def terms(xp: Any, name: str, config: dict[str, Any], logprobs: Any, behaviour: Any, advantages: Any) -> losses.Terms:
    chosen = losses.settings(name, config)
    inputs = {"logprobs": behaviour, "advantages": advantages}
    inputs |= {key: xp.full_like(behaviour, chosen[key]) for key in losses.find(name).per_token}
    return losses.find(name).terms(xp, logprobs, inputs, chosen)


@pytest.mark.parametrize("array", [np.array, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize(("name", "config", "per_token", "total"), GOLDEN)
def test_golden(array: Any, name: str, config: dict[str, Any], per_token: list[float], total: float) -> None:
    xp = np if array is np.array else torch
    loss = terms(xp, name, config, array(LOGPROBS), array(BEHAVIOUR), array(ADVANTAGES)).loss
    np.testing.assert_allclose(np.asarray(loss), per_token, rtol=1e-5, atol=1e-6)
    assert float(loss.sum()) == pytest.approx(total, abs=2e-6)


def test_golden_cross_entropy() -> None:
    loss = terms(np, "cross_entropy", {}, np.array(LOGPROBS), np.array(BEHAVIOUR), np.array(ADVANTAGES)).loss
    np.testing.assert_allclose(loss * np.array(WEIGHTS), [0, 1, 2, 0.05])


def plain_loss(name: str, l: torch.Tensor, b: float, a: float, config: dict[str, Any]) -> torch.Tensor:  # noqa: E741
    """One token, as one would write it for autograd: minimum, clamp and detach instead of gradients by hand."""
    ratio = torch.exp(l - b)
    low, high = config.get("clip_low_threshold"), config.get("clip_high_threshold")
    if name == "cross_entropy":
        return -l
    if name == "importance_sampling":
        return -ratio * a
    if name == "ppo":
        return -torch.minimum(ratio * a, ratio.clamp(low, high) * a)
    if name == "cispo":
        return -ratio.clamp(low, high).detach() * a * l
    if name == "dro":
        return -(a * l - config["beta"] / 2 * (l - b) ** 2)
    p, q = math.exp(l.item()), math.exp(b)
    if config["dppo_type"] == "binary_tv":
        up, down = p - q, q - p
    else:
        up = down = q * (b - l.item()) + (1 - q) * math.log((1 - q) / (1 - p))
    blocked = (a > 0 and p > q and up > config["delta_high"]) or (a < 0 and p < q and down > config["delta_low"])
    return ratio * 0.0 if blocked else -ratio * a


logprob = st.floats(-6, -0.02)
named = st.sampled_from([("cross_entropy", {}), *((name, config) for name, config, _, _ in GOLDEN)])


@settings(deadline=None, max_examples=100)
@given(named, logprob, logprob, st.floats(-3, 3))
def test_loss_and_gradient_are_those_of_autograd(case: Any, l: float, b: float, a: float) -> None:  # noqa: E741
    name, config = case
    learner = torch.tensor(l, dtype=torch.float64, requires_grad=True)
    wanted = plain_loss(name, learner, b, a, losses.settings(name, config))
    wanted.backward()
    got = terms(np, name, config, np.array([l]), np.array([b]), np.array([a]))
    assert got.loss[0] == pytest.approx(wanted.item(), rel=1e-9, abs=1e-12)
    assert got.gradient[0] == pytest.approx(learner.grad.item(), rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(named, st.lists(st.tuples(logprob, logprob, st.floats(-3, 3)), min_size=1, max_size=8))
def test_both_array_libraries_agree(case: Any, tokens: list[tuple[float, float, float]]) -> None:
    columns = np.array(tokens).T.copy()
    ours = terms(np, *case, *columns)
    theirs = terms(torch, *case, *torch.from_numpy(columns))
    for field in ("loss", "gradient", *losses.find(case[0]).reports):
        np.testing.assert_allclose(getattr(ours, field), np.asarray(getattr(theirs, field)), rtol=1e-12)


@pytest.mark.parametrize(("l", "b"), [(0.0, -1.0), (-1.0, 0.0), (-1.0, -math.inf)])
def test_binary_kl_takes_its_limits_at_certainty(l: float, b: float) -> None:  # noqa: E741
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        got = terms(np, "dppo", {"dppo_type": "binary_kl"}, np.array([l]), np.array([b]), np.array([0.5]))
    assert got.clipped is not None
    assert not np.isnan(got.loss).any()


def test_clipping_is_reported_where_it_happens() -> None:
    ppo = terms(np, "ppo", {}, np.array(LOGPROBS), np.array(BEHAVIOUR), np.array(ADVANTAGES))
    assert ppo.clipped.tolist() == [True, True, False, True]
    cispo = terms(np, "cispo", {"clip_high_threshold": 1.1}, *map(np.array, (LOGPROBS, BEHAVIOUR, ADVANTAGES)))
    assert cispo.clipped.tolist() == [True, False, False, True]


def test_per_token_thresholds() -> None:
    inputs = {
        "logprobs": np.array(BEHAVIOUR),
        "advantages": np.array(ADVANTAGES),
        "clip_low_threshold": np.array([0.8, 0.1, 0.8, 0.8]),
        "clip_high_threshold": np.array([5.0, 1.2, 1.2, 1.2]),
    }
    loss = losses.LOSSES["ppo"].terms(np, np.array(LOGPROBS), inputs, {}).loss
    np.testing.assert_allclose(loss, [-1.221403, 0.670320, -0.5, -2.4], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        ("mse", None, r"loss_fn: expected one of .* got 'mse'"),
        ("cross_entropy", {"beta": 1.0}, r"loss_fn_config\['beta'\]: cross_entropy has no such setting"),
        ("dro", {"beta": -1.0}, r"loss_fn_config\['beta'\]: expected a finite number >= 0"),
        ("dro", {"beta": math.nan}, "finite"),
        ("dro", {"beta": True}, "got True"),
        ("ppo", {"clip_low_threshold": "0.8"}, "clip_low_threshold"),
        ("ppo", {"clip_low_threshold": 2.0}, "above clip_high_threshold 1.2"),
        ("dppo", {"dppo_type": "tv"}, "expected one of .*binary_tv"),
    ],
)
def test_refusals(name: str, config: dict[str, Any] | None, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        losses.settings(name, config)


def test_defaults_of_dppo_follow_its_type() -> None:
    assert losses.settings("dppo", None)["delta_high"] == 0.2
    assert losses.settings("dppo", {"dppo_type": "binary_kl"})["delta_low"] == 0.05
    assert losses.settings("dppo", {"dppo_type": "binary_kl", "delta_low": 0.3})["delta_low"] == 0.3
