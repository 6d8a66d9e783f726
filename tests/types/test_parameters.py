"""Parameters of steps and of sampling, results, addresses of checkpoints: bounds, messages, values."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_args

import attrs
import numpy as np
import pytest

from loops_sdk import (
    AdamParams,
    BasetenDeployment,
    Checkpoint,
    CheckpointFile,
    CheckpointPath,
    Deployment,
    ForwardBackwardOutput,
    InvalidInputError,
    LocalDeployment,
    SampledSequence,
    SampleResult,
    SamplingParams,
    TensorData,
)
from loops_sdk.types._checks import check_address, check_int, check_number, check_text
from loops_sdk.types.checkpoints import check_name


def test_the_documented_defaults() -> None:
    assert attrs.astuple(AdamParams()) == (1e-4, 0.9, 0.95, 1e-12, 0.0, 0.0)
    assert attrs.astuple(SamplingParams()) == (1.0, 1.0, -1, None, None, ())


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(AdamParams)])
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, "0.1", None, True, 10**400])
def test_every_adam_parameter_has_bounds(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=rf"^{name}: expected a (finite number|value >= 0)"):
        AdamParams(**{name: value})


@pytest.mark.parametrize("name", ["beta1", "beta2"])
def test_betas_end_below_one_where_the_bias_correction_would_divide_by_zero(name: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"^{name}: expected a value >= 0 and < 1, got 1\.0$"):
        AdamParams(**{name: 1.0})


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "temperature": (lambda: SamplingParams(temperature=-1), r"^temperature: expected a value >= 0, got -1$"),
    "top_p": (lambda: SamplingParams(top_p=0), r"^top_p: expected a value > 0 and <= 1, got 0$"),
    "top_p above": (lambda: SamplingParams(top_p=1.01), r"^top_p: expected a value > 0 and <= 1, got 1\.01$"),
    "top_k": (lambda: SamplingParams(top_k=0), r"^top_k: expected a value >= 1, or -1 to keep all, got 0$"),
    "top_k below": (lambda: SamplingParams(top_k=-2), r"^top_k: expected a value >= -1, got -2$"),
    "top_k fraction": (lambda: SamplingParams(top_k=-1.0), r"^top_k: expected a whole number, got -1\.0$"),
    "max_tokens": (lambda: SamplingParams(max_tokens=0), r"^max_tokens: expected a value >= 1, got 0$"),
    "seed": (lambda: SamplingParams(seed=-1), r"^seed: expected a value >= 0 and <= "),
    "seed bool": (lambda: SamplingParams(seed=True), r"^seed: expected a whole number, got True$"),
    "stop empty": (lambda: SamplingParams(stop=""), r"^stop: expected non-empty strings, or token ids"),
    "stop mixed": (lambda: SamplingParams(stop=["a", 1]), r"^stop: .* not a mix; got \['a', 1\]$"),
    "stop fraction": (lambda: SamplingParams(stop=1.5), r"^stop: .*; got 1\.5$"),
    "stop negative": (lambda: SamplingParams(stop=[-1]), r"^stop: .*; got \[-1\]$"),
    "stop bool": (lambda: SamplingParams(stop=[True]), r"^stop: .*; got \[True\]$"),
    "address": (lambda: LocalDeployment("localhost:8000"), r"^base_url: expected an http:// or https:// address, got"),
    "no host": (lambda: LocalDeployment("http://"), r"^base_url: expected an http:// or https:// address"),
    "no text": (lambda: LocalDeployment(8000), r"^base_url: expected an http:// or https:// address, got 8000$"),
    "port": (lambda: LocalDeployment("http://a:99999"), r"^base_url: expected an http:// or https:// address"),
    "brackets": (lambda: LocalDeployment("http://[::1"), r"^base_url: expected an http:// or https:// address"),
}


def test_numbers_of_numpy_become_plain_ones() -> None:
    adam = AdamParams(learning_rate=np.float32(0.5), beta1=np.array(0.25))
    assert (adam.learning_rate, adam.beta1) == (0.5, 0.25)
    sampling = SamplingParams(temperature=np.float64(0.5), top_k=np.int64(3), max_tokens=np.int32(4), seed=np.uint8(1))
    assert [type(one) for one in attrs.astuple(sampling)] == [float, float, int, int, int, tuple]
    with pytest.raises(InvalidInputError, match=r"^max_tokens: expected a whole number, got 2.5"):
        SamplingParams(max_tokens=np.float32(2.5))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_a_deployment_is_one_of_two() -> None:
    assert get_args(Deployment) == (LocalDeployment, BasetenDeployment)


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInputError, match="without user and password") as caught:
        LocalDeployment("http://me:secret@host")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, ()), ([], ()), ("END", ("END",)), (["a", "b"], ("a", "b")), (7, (7,)), ((0, 7), (0, 7)), ({"x"}, ("x",))],
)
def test_stop_in_all_its_forms(given: Any, kept: tuple[Any, ...]) -> None:
    assert SamplingParams(stop=given).stop == kept


def test_messages_stay_short_whatever_was_given() -> None:
    for check in (check_number, check_int, check_text, check_address, check_name):
        with pytest.raises(InvalidInputError, match=r"^argument: ") as caught:
            check("argument", ["x" * 100_000])
        assert len(str(caught.value)) < 250


def test_values_are_frozen_and_compare_by_value() -> None:
    params = SamplingParams(stop=["a"])
    assert params == SamplingParams(stop=("a",))
    assert hash(params) == hash(SamplingParams(stop="a"))
    assert pickle.loads(pickle.dumps(params)) == params
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        params.seed = 1


def test_results_compare_by_value_and_print_briefly() -> None:
    def result() -> ForwardBackwardOutput:
        return ForwardBackwardOutput(1.5, {"loss:sum": 1.5}, [{"logprobs": TensorData([0.5])}])

    assert result() == result() == pickle.loads(pickle.dumps(result()))
    assert "loss_fn_outputs=<1 datums>" in repr(result())
    sample = SampleResult([SampledSequence([1], [-0.5], "stop")], policy_version=3)
    assert sample == SampleResult([SampledSequence([1], [-0.5], "stop")], 3)


def test_a_presigned_url_is_not_printed() -> None:
    assert "secret" not in repr(CheckpointFile("https://store/x?signature=secret", "x", 0, 1, ""))


# ---------------------------------------------------------------- addresses of checkpoints


@pytest.mark.parametrize("kind", ["weights", "sampler_weights"])
def test_an_address_and_its_parts(kind: str) -> None:
    text = f"bt://loops:k4q95w5/{kind}/step-1.final_2"
    path = CheckpointPath.parse(text)
    assert (path.run_id, path.kind, path.name) == ("k4q95w5", kind, "step-1.final_2")
    assert str(path) == text
    assert pickle.loads(pickle.dumps(path)) == path


HOSTILE = [
    *("..", ".", "", "../x", "a/b", "a\\b", "C:x", "a\0b", "a\nb", "a\n", " a", "-a", ".a", "ä", "٣", "a b", "a%2fb"),
    "x" * 256,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_everywhere(name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^name: expected 1 to 255 letters"):
        check_name("name", name)
    with pytest.raises(InvalidInputError, match=r"^model_path: expected "):
        CheckpointPath.parse(f"bt://loops:run/weights/{name}", argument="model_path")
    with pytest.raises(InvalidInputError, match=r"^model_path: expected "):
        CheckpointPath.parse(f"bt://loops:{name}/weights/x", argument="model_path")
    with pytest.raises(InvalidInputError, match=r"^run_id: expected 1 to 255 letters"):
        CheckpointPath(name, "weights", "x")


@pytest.mark.parametrize(
    "path", [None, 5, "", "weights/x", "bt://loops:r/adapters/x", "s3://loops:r/weights/x", b"bt://"]
)
def test_what_is_no_address_is_refused(path: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^path: expected bt://loops:<run_id>/weights/<name> or "):
        CheckpointPath.parse(path)


def test_names_at_the_edge_of_what_is_allowed() -> None:
    assert check_name("name", "x" * 255) == "x" * 255
    assert check_name("name", "0") == "0"
    with pytest.raises(InvalidInputError, match=r"^kind: expected 'weights' or 'sampler_weights', got 'x'$"):
        CheckpointPath("run", "x", "name")


@pytest.mark.parametrize(("target", "kind"), [("sampler", "sampler_weights"), ("trainer", "weights")])
def test_a_checkpoint_knows_its_address(target: str, kind: str) -> None:
    made = datetime(2026, 1, 1, tzinfo=UTC)
    checkpoint = Checkpoint("id", "step-1", "run", target, "lora", None, 10, made)
    assert checkpoint.path == f"bt://loops:run/{kind}/step-1"
