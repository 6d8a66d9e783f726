"""Losses of the user's own: what is sent for them, what they may return, and how a call ends that does not go well."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import inspect
import math
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from loops_sdk import (
    AdamParams,
    CustomArrayLoss,
    CustomLoss,
    Datum,
    EncodedTextChunk,
    ImageChunk,
    ModelInput,
    TrainingClient,
    errors,
)
from loops_sdk.instrumentation import Event, OperationMeasured

PAIR = [
    Datum([1, 2, 3], {"target_tokens": [2, -100, 4], "reference_logprobs": [0.5, 0.0, 0.25], "label": [1, 1, 1]}),
    Datum([5, 6], {"target_tokens": [6, 7], "weights": [3.0, 3.0]}),
]
#: What the trainer of these tests says of a target at position i.
LOGPROBS = [-0.1, -0.2, -0.3, -0.4]
PASSES = ["POST /forward", "POST /forward_backward"]


@pytest.fixture(autouse=True)
def trainer(service: Any, reply: Callable[..., Any]) -> None:
    """Log-probabilities for every target, and a loss of every backward pass."""

    def answer(body: Any) -> dict[str, Any]:
        outputs, loss = [], 0.0
        for datum in body["data"]:
            targets, inputs = datum["loss_fn_inputs"]["target_tokens"]["data"], datum["loss_fn_inputs"]
            logprobs = [0.0 if target == -100 else LOGPROBS[i] for i, target in enumerate(targets)]
            outputs.append({"logprobs": {"data": logprobs, "dtype": "float32", "shape": [len(logprobs)]}})
            loss -= float(np.dot(logprobs, inputs.get("weights", {"data": [1.0] * len(logprobs)})["data"]))
        metrics = {"loss": loss, "loss:sum": loss, "loss_tokens:sum": 4.0}
        return {"loss": loss, "metrics": metrics, "loss_fn_outputs": outputs, "loss_fn_output_type": "TorchLossReturn"}

    async def accept(_request: Any) -> Any:
        operation_id = f"pass-{len(service.lines('POST /forward')) - 1}"
        service._operations[operation_id] = answer(service.asked[-1].body)
        return reply(202, {"operation_id": operation_id})

    for line in PASSES:
        service.on[line] = accept


def squares(data: list[Datum], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
    """sum of l^2, whose gradient is 2 l."""
    return torch.stack([(values**2).sum() for values in logprobs]).sum(), {"count": len(data)}


def squares_of_arrays(data: list[Datum], logprobs: list[Any]) -> tuple[float, list[Any], dict[str, float]]:
    return sum(float((values**2).sum()) for values in logprobs), [2 * values for values in logprobs], {"count": 2}


def sent(service: Any, line: str, name: str) -> list[Any]:
    return [datum["loss_fn_inputs"].get(name, {}).get("data") for datum in service.last(line).body["data"]]


# ---------------------------------------------------------------- what is sent, and what comes back


@pytest.mark.parametrize(("loss_fn", "autograd"), [(squares, True), (squares_of_arrays, False)])
async def test_the_gradient_travels_as_weights(
    training: TrainingClient, service: Any, loss_fn: Any, autograd: bool
) -> None:
    result = await (await training.forward_backward_custom_async(PAIR, loss_fn, autograd=autograd))
    assert service.lines("POST") == PASSES
    assert [list(datum["loss_fn_inputs"]) for datum in service.last(PASSES[0]).body["data"]] == [["target_tokens"]] * 2
    assert [set(datum["loss_fn_inputs"]) for datum in service.last(PASSES[1]).body["data"]] == [
        {"target_tokens", "weights"}
    ] * 2
    for line in PASSES:
        assert service.last(line).body["loss_fn"] == "cross_entropy"
        assert sent(service, line, "target_tokens") == [[2, -100, 4], [6, 7]]
    weights = sent(service, PASSES[1], "weights")
    assert weights == [pytest.approx([0.2, 0.0, 0.6]), pytest.approx([0.2, 0.4])]
    loss = 0.01 + 0.09 + 0.01 + 0.04
    assert result.loss == pytest.approx(loss)
    assert result.metrics == {"loss:sum": result.loss, "loss_tokens:sum": 4.0, "count": 2.0}
    assert [list(output) for output in result.loss_fn_outputs] == [["logprobs"], ["logprobs"]]
    assert result.loss_fn_outputs[0]["logprobs"].tolist() == pytest.approx([-0.1, 0.0, -0.3])


async def test_what_the_function_is_given(training: TrainingClient) -> None:
    seen: list[Any] = []

    def loss_fn(data: list[Datum], logprobs: list[torch.Tensor]) -> Any:
        seen.extend([data, *logprobs, threading.current_thread()])
        data.clear()  # the list is the function's own
        return squares(data, logprobs)

    await training.forward_backward_custom_async(PAIR, loss_fn)
    assert seen[0] == []
    for values, length in zip(seen[1:3], (3, 2), strict=True):
        assert (values.dtype, tuple(values.shape), values.requires_grad, values.is_leaf) == (
            torch.float32,
            (length,),
            True,
            True,
        )
    assert seen[3] is not threading.main_thread()


async def test_arrays_are_read_only_float32(training: TrainingClient) -> None:
    seen: list[Any] = []

    def loss_fn(data: list[Datum], logprobs: list[Any]) -> Any:
        seen.extend(logprobs)
        assert data == PAIR
        return np.float32(1), [values.tolist() for values in logprobs], {}

    result = await (await training.forward_backward_custom_async(PAIR, loss_fn, autograd=False))
    assert result.loss == 1.0
    assert {(values.dtype.name, values.flags.writeable) for values in seen} == {("float32", False)}


class Scaled:
    """A loss with settings, as an object."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, data: list[Datum], logprobs: list[torch.Tensor], /) -> Any:
        loss, metrics = squares(data, logprobs)
        return self.scale * loss, metrics


def scaled_arrays(scale: float, data: list[Datum], logprobs: list[Any]) -> Any:
    loss, gradients, metrics = squares_of_arrays(data, logprobs)
    return scale * loss, [scale * values for values in gradients], metrics


async def test_whatever_can_be_called_is_a_loss(training: TrainingClient, service: Any) -> None:
    of_tensors: CustomLoss = Scaled(2.0)
    of_arrays: CustomArrayLoss = functools.partial(scaled_arrays, 2.0)
    for loss_fn, autograd in ((of_tensors, True), (of_arrays, False)):
        result = await (await training.forward_backward_custom_async(PAIR, loss_fn, autograd=autograd))
        assert result.loss == pytest.approx(0.3)
        assert sent(service, PASSES[1], "weights") == [pytest.approx([0.4, 0.0, 1.2]), pytest.approx([0.4, 0.8])]


async def test_targets_of_their_own_are_not_needed(training: TrainingClient, service: Any) -> None:
    await training.forward_backward_custom_async([Datum([1, 2, 3])], squares)
    for line in PASSES:
        assert sent(service, line, "target_tokens") == [[2, 3, -100]]
    assert sent(service, PASSES[1], "weights") == [pytest.approx([0.2, 0.4, 0.0])]


async def test_an_input_of_several_chunks_is_shifted_as_one(training: TrainingClient, service: Any) -> None:
    text = ModelInput((EncodedTextChunk([1, 2]), EncodedTextChunk([3])))
    await training.forward_backward_custom_async([Datum(text), Datum([7])], squares)
    assert sent(service, PASSES[0], "target_tokens") == [[2, 3, -100], [-100]]


async def test_a_mask_of_zero_ignores_the_target(training: TrainingClient, service: Any) -> None:
    datum = Datum([1, 2, 3], {"target_tokens": [2, 3, 4], "mask": [1, 0, 0.5]})
    await training.forward_backward_custom_async([datum], squares)
    assert sent(service, PASSES[0], "target_tokens") == [[2, -100, 4]]
    assert sent(service, PASSES[1], "weights") == [pytest.approx([0.2, 0.0, 0.6])]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 7.0])
async def test_a_gradient_at_an_ignored_position_plays_no_part(
    training: TrainingClient, service: Any, value: float
) -> None:
    def loss_fn(_data: list[Datum], logprobs: list[Any]) -> Any:
        return 0.0, [np.full(values.shape, 1.0 if index else value) for index, values in enumerate(logprobs)], {}

    data = [Datum([1, 2], {"target_tokens": [-100, -100]}), PAIR[1]]
    await training.forward_backward_custom_async(data, loss_fn, autograd=False)
    assert sent(service, PASSES[1], "weights") == [[0.0, 0.0], [-1.0, -1.0]]


async def test_a_datum_that_the_loss_leaves_out_has_no_gradient(training: TrainingClient, service: Any) -> None:
    await training.forward_backward_custom_async(PAIR, lambda _data, logprobs: (logprobs[0].sum(), {}))
    assert sent(service, PASSES[1], "weights") == [[-1.0, 0.0, -1.0], [0.0, 0.0]]


async def test_metrics_of_the_function_win_and_any_number_will_do(training: TrainingClient) -> None:
    def loss_fn(_data: list[Datum], logprobs: list[torch.Tensor]) -> Any:
        loss = logprobs[0].sum()
        return loss, {"loss_tokens:sum": 9, "margin": loss, "scale": np.float32(0.5), "loss:sum": 77}

    result = await (await training.forward_backward_custom_async(PAIR, loss_fn))
    assert result.metrics == {
        "loss_tokens:sum": 9.0,
        "margin": pytest.approx(-0.4),
        "scale": 0.5,
        "loss:sum": result.loss,
    }


async def test_observers_hear_of_one_pass_with_the_loss_of_the_function(training: TrainingClient) -> None:
    heard: list[Event] = []
    training._meter.emit = heard.append
    result = await (await training.forward_backward_custom_async(PAIR, squares))
    (event,) = heard
    assert isinstance(event, OperationMeasured)
    assert (event.operation, event.loss, event.tokens, event.steps) == ("forward_backward", result.loss, 5, 0)
    assert event.metrics == result.metrics


async def test_the_example_in_the_documentation(training: TrainingClient, service: Any) -> None:
    told = inspect.getdoc(TrainingClient.forward_backward_custom_async) or ""
    names: dict[str, Any] = {"torch": torch}
    exec(textwrap.dedent(told[told.index("    def dpo") : told.index("Args:")]), names)
    chosen = Datum([1, 2], {"target_tokens": [2, 3], "reference_logprobs": [-0.5, -1.0]})
    rejected = Datum([1, 2], {"target_tokens": [2, 4], "reference_logprobs": [-0.2, -0.2]})
    result = await (await training.forward_backward_custom_async([chosen, rejected], names["dpo"]))
    margin = 0.1 * ((-0.3 + 1.5) - (-0.3 + 0.4))
    slope = 0.1 / (1 + math.exp(margin))
    assert result.loss == pytest.approx(math.log1p(math.exp(-margin)))
    assert result.metrics["margin"] == pytest.approx(margin)
    assert sent(service, PASSES[1], "weights") == [pytest.approx([slope, slope]), pytest.approx([-slope, -slope])]


# ---------------------------------------------------------------- order


async def test_both_passes_stand_before_the_step_of_the_same_gather(training: TrainingClient, service: Any) -> None:
    futures: list[Any] = await asyncio.gather(
        training.forward_backward_async(PAIR[1:]),
        training.forward_backward_custom_async(PAIR, squares),
        training.optim_step_async(AdamParams()),
        training.forward_backward_custom_async(PAIR, squares_of_arrays, autograd=False),
        training.save_state_async("a"),
    )
    await asyncio.gather(*(future.result_async() for future in futures))
    assert service.lines("POST") == [PASSES[1], *PASSES, "POST /optim_step", *PASSES, "POST /save_state"]


class Held:
    """A function that waits to be let go."""

    def __init__(self) -> None:
        self.running, self.go_on = threading.Event(), threading.Event()

    def __call__(self, data: list[Datum], logprobs: list[torch.Tensor]) -> Any:
        self.running.set()
        assert self.go_on.wait(20)
        return squares(data, logprobs)


async def test_cancelled_while_the_function_runs_nothing_is_accumulated(training: TrainingClient, service: Any) -> None:
    held = Held()
    call = asyncio.create_task(training.forward_backward_custom_async(PAIR, held))
    step = asyncio.create_task(training.optim_step_async(AdamParams()))
    await asyncio.to_thread(held.running.wait, 20)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await (await step)).metrics["step"] == 1.0
    held.go_on.set()
    assert service.lines("POST") == ["POST /forward", "POST /optim_step"]


async def test_cancelled_while_the_trainer_runs_the_forward_nothing_is_accumulated(
    training: TrainingClient, service: Any
) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def late(_request: Any) -> Any:
        asked.set()
        await release.wait()

    service.on["GET /operations/pass-0"] = late
    call = asyncio.create_task(training.forward_backward_custom_async(PAIR, squares))
    step = asyncio.create_task(training.optim_step_async(AdamParams()))
    await asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    accepted = await step
    release.set()
    assert (await accepted).metrics["step"] == 1.0
    assert service.lines("POST") == ["POST /forward", "POST /optim_step"]


async def test_cancelled_while_queued_it_leaves_no_trace(training: TrainingClient, service: Any) -> None:
    held = Held()
    first = asyncio.create_task(training.forward_backward_custom_async(PAIR, held))
    second = asyncio.create_task(training.forward_backward_custom_async(PAIR, squares))
    third = asyncio.create_task(training.optim_step_async(AdamParams()))
    await asyncio.to_thread(held.running.wait, 20)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    held.go_on.set()
    await asyncio.gather(first, third)
    assert service.lines("POST") == [*PASSES, "POST /optim_step"]


async def test_a_forward_that_fails_is_told_and_the_line_goes_on(
    training: TrainingClient, service: Any, reply: Any
) -> None:
    async def fail(_request: Any) -> Any:
        return reply(200, {"status": "error", "error": "no memory", "error_class": "RuntimeError"})

    service.on["GET /operations/pass-0"] = fail
    call, step = await asyncio.gather(
        training.forward_backward_custom_async(PAIR, squares),
        training.optim_step_async(AdamParams()),
        return_exceptions=True,
    )
    assert isinstance(call, errors.RemoteOpError)
    assert (call.operation, call.message) == ("forward", "no memory")
    assert not isinstance(step, BaseException)
    assert service.lines("POST") == ["POST /forward", "POST /optim_step"]


async def test_a_refused_forward_is_told_and_the_line_goes_on(
    training: TrainingClient, service: Any, reply: Any
) -> None:
    async def refuse(_request: Any) -> Any:
        return reply(400, {"detail": "data[0].model_input: expected 1 to 64 tokens, got 0"})

    service.on["POST /forward"] = refuse
    call, step = await asyncio.gather(
        training.forward_backward_custom_async([Datum([])], squares),
        training.optim_step_async(AdamParams()),
        return_exceptions=True,
    )
    assert isinstance(call, errors.BadRequestError)
    assert "expected 1 to 64 tokens, got 0" in call.message
    assert not isinstance(step, BaseException)


async def test_a_forward_that_takes_too_long(service: Any) -> None:
    release = asyncio.Event()

    async def late(_request: Any) -> Any:
        await release.wait()

    service.on["GET /operations/pass-0"] = late
    async with TrainingClient(service.trainer, base_model="acme/model", timeout=0.3) as training:
        with pytest.raises(errors.OperationTimeoutError, match=r"within 0.3 s of its turn"):
            await training.forward_backward_custom_async(PAIR, squares)
        assert (await (await training.optim_step_async(AdamParams()))).metrics["step"] == 1.0
    release.set()


async def test_close_in_the_middle(training: TrainingClient, service: Any) -> None:
    held = Held()
    call = asyncio.create_task(training.forward_backward_custom_async(PAIR, held))
    step = asyncio.create_task(training.optim_step_async(AdamParams()))
    await asyncio.to_thread(held.running.wait, 20)
    await training.aclose()
    held.go_on.set()
    done = await asyncio.gather(call, step, return_exceptions=True)
    assert [type(error) for error in done] == [errors.ClientClosedError] * 2
    assert service.lines("POST") == ["POST /forward"]


async def test_a_function_that_calls_its_own_trainer_is_refused(training: TrainingClient, service: Any) -> None:
    loop = asyncio.get_running_loop()

    def loss_fn(data: list[Datum], _logprobs: list[torch.Tensor]) -> Any:
        return asyncio.run_coroutine_threadsafe(training.forward_async(data), loop).result(20)

    with pytest.raises(errors.LoopsError, match="the loss function calls the trainer that waits for it"):
        await training.forward_backward_custom_async(PAIR, loss_fn)
    assert (await (await training.optim_step_async(AdamParams()))).metrics["step"] == 1.0


# ---------------------------------------------------------------- functions that are wrong


def returning(result: Callable[[list[torch.Tensor]], Any]) -> Any:
    return lambda _data, logprobs: result(logprobs)


def _called_backward(logprobs: list[torch.Tensor]) -> Any:
    loss = logprobs[0].sum()
    loss.backward()
    return loss, {}


def _nan_gradient(logprobs: list[torch.Tensor]) -> Any:
    return torch.sqrt(logprobs[1] - logprobs[1].detach()).sum() * 0 + 1, {}


def first(logprobs: list[torch.Tensor]) -> torch.Tensor:
    return logprobs[0].sum()


WRONG: dict[str, tuple[Callable[[Any], Any], bool, str]] = {
    "no tuple": (first, True, r"expected it to return \(loss, metrics\), got Tensor"),
    "nothing": (lambda _: None, True, r"expected it to return \(loss, metrics\), got NoneType"),
    "three": (lambda one: (first(one), {}, {}), True, r"expected it to return \(loss, metrics\), got 3 values"),
    "a float": (lambda _: (1.0, {}), True, r"expected the loss as a torch tensor .*, got 1.0"),
    "no scalar": (lambda one: (one[0], {}), True, r"expected a scalar loss, got shape \[3\]"),
    "detached": (lambda one: (first(one).detach(), {}), True, r"the loss does not depend on logprobs"),
    "elsewhere": (
        lambda _: (torch.ones((), requires_grad=True) * 2, {}),
        True,
        r"the loss does not depend on logprobs",
    ),
    "backward": (_called_backward, True, r"it called backward\(\) itself"),
    "nan": (lambda one: (first(one) * float("nan"), {}), True, r"expected a finite loss, got nan"),
    "infinite": (lambda one: (first(one) * float("inf"), {}), True, r"expected a finite loss, got -inf"),
    "nan gradient": (_nan_gradient, True, r"gradient of logprobs\[1\]: nan at \[0\] is not finite"),
    "metrics": (lambda one: (first(one), [1]), True, r"metrics: expected numbers by name, got \[1\]"),
    "metric name": (lambda one: (first(one), {1: 2}), True, r"metrics: expected text as names, got 1"),
    "metric text": (lambda one: (first(one), {"a": "1"}), True, r"metrics\['a'\]: expected a number, got '1'"),
    "metric bool": (lambda one: (first(one), {"a": True}), True, r"metrics\['a'\]: expected a number, got True"),
    "metric many": (lambda one: (first(one), {"a": one[0]}), True, r"metrics\['a'\]: expected a number, got tensor"),
    "arrays: two": (lambda one: (1.0, one), False, r"expected it to return \(loss, gradients, metrics\), got 2 values"),
    "arrays: loss": (lambda one: (None, one, {}), False, r"loss: expected a number, got None"),
    "arrays: nan": (lambda one: (float("nan"), one, {}), False, r"expected a finite loss, got nan"),
    "arrays: no list": (lambda one: (1.0, one[0], {}), False, r"gradients: expected a list of 2 arrays, got array"),
    "arrays: number": (lambda one: (1.0, one[:1], {}), False, r"gradients: expected a list of 2 arrays, got 1 of them"),
    "arrays: shape": (
        lambda one: (1.0, [one[0], one[0]], {}),
        False,
        r"gradient of logprobs\[1\]: expected shape \[2\], got \[3\]",
    ),
    "arrays: text": (
        lambda one: (1.0, [one[0], ["a", "b"]], {}),
        False,
        r"gradient of logprobs\[1\]: expected integers or floats",
    ),
    "arrays: finite": (
        lambda one: (1.0, [one[0], [1.0, float("inf")]], {}),
        False,
        r"gradient of logprobs\[1\]: inf at \[1\] is not finite",
    ),
    "arrays: large": (
        lambda one: (1.0, [one[0], [1.0, 1e200]], {}),
        False,
        r"gradient of logprobs\[1\]: 1e\+200 does not fit into float32",
    ),
    "arrays: metrics": (lambda one: (1.0, one, None), False, r"metrics: expected numbers by name, got None"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_result_accumulates_nothing_and_stops_nobody(
    training: TrainingClient, service: Any, name: str
) -> None:
    result, autograd, message = WRONG[name]
    call, step = await asyncio.gather(
        training.forward_backward_custom_async(PAIR, returning(result), autograd=autograd),
        training.optim_step_async(AdamParams()),
        return_exceptions=True,
    )
    assert isinstance(call, errors.InvalidInputError), repr(call)
    with pytest.raises(errors.InvalidInputError, match=f"^loss_fn: {message}"):
        raise call
    assert not isinstance(step, BaseException)
    assert service.lines("POST") == ["POST /forward", "POST /optim_step"]


async def test_an_error_of_the_function_comes_out_as_it_is(training: TrainingClient, service: Any) -> None:
    mine = KeyError("reference_logprobs")

    def loss_fn(_data: list[Datum], _logprobs: list[torch.Tensor]) -> Any:
        raise mine

    call, step = await asyncio.gather(
        training.forward_backward_custom_async(PAIR, loss_fn),
        training.optim_step_async(AdamParams()),
        return_exceptions=True,
    )
    assert call is mine
    assert not isinstance(step, BaseException)
    assert service.lines("POST") == ["POST /forward", "POST /optim_step"]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([], r"0 loss_fn_outputs for 2 datums"),
        (
            [{"logprobs": [0.0] * 3}, {"logprobs": [0.0] * 3}],
            r"\[1\]\['logprobs'\]: expected shape \[2\], got shape \[3\]",
        ),
        ([{"logprobs": [0.0] * 3}, {}], r"\[1\]\['logprobs'\]: expected shape \[2\], got nothing"),
    ],
)
async def test_a_trainer_that_answers_something_else(
    training: TrainingClient, service: Any, reply: Any, outputs: Any, message: str
) -> None:
    async def answer(_request: Any) -> Any:
        return reply(200, {"status": "done", "result": {"loss": 1.0, "loss_fn_outputs": outputs}})

    service.on["GET /operations/pass-0"] = answer
    with pytest.raises(errors.ProtocolError, match=message):
        await training.forward_backward_custom_async(PAIR, squares)
    assert service.lines("POST") == ["POST /forward"]


async def test_whole_numbers_from_the_trainer_are_floats_to_the_function(
    training: TrainingClient, service: Any, reply: Any
) -> None:
    async def answer(_request: Any) -> Any:
        return reply(200, {"status": "done", "result": {"loss": 1.0, "loss_fn_outputs": [{"logprobs": [-1, -2]}]}})

    service.on["GET /operations/pass-0"] = answer
    await training.forward_backward_custom_async(PAIR[1:], squares)
    assert sent(service, PASSES[1], "weights") == [[2.0, 4.0]]


# ---------------------------------------------------------------- arguments

IMAGE = ModelInput((EncodedTextChunk([1]), ImageChunk("aGk=", 2)))
REFUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "no list": ((PAIR[0], squares), {}, r"^data: expected a list of Datum, got Datum; one of them is \[datum\]$"),
    "empty": (([], squares), {}, r"^data: expected at least one Datum, got an empty list$"),
    "other": (([3], squares), {}, r"^data\[0\]: expected Datum, got int$"),
    "no function": ((PAIR, "ppo"), {}, r"^loss_fn: expected a plain function of \(data, logprobs\), got 'ppo'$"),
    "coroutine": ((PAIR, asyncio.sleep), {}, r"^loss_fn: expected a plain function"),
    "autograd": ((PAIR, squares), {"autograd": 1}, r"^autograd: expected True or False, got 1$"),
    "image": (
        ([Datum(IMAGE)], squares),
        {},
        r"^data\[0\]: an image has no token ids to be predicted; give target_tokens$",
    ),
    "mask": (
        ([Datum([1, 2], {"mask": [[1], [1]]})], squares),
        {},
        r"^data\[0\].loss_fn_inputs\['mask'\]: expected shape \[2\] like target_tokens, got \[2, 1\]$",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_arguments_are_checked_before_anything_is_sent(training: TrainingClient, service: Any, name: str) -> None:
    arguments, options, message = REFUSED[name]
    with pytest.raises(errors.InvalidInputError, match=message):
        await training.forward_backward_custom_async(*arguments, **options)
    assert service.asked == []


async def test_without_torch_only_arrays_will_do(
    training: TrainingClient, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    with pytest.raises(errors.UnsupportedError, match=r"^autograd: torch is not installed"):
        await training.forward_backward_custom_async(PAIR, squares)
    assert service.asked == []
    await training.forward_backward_custom_async(PAIR, squares_of_arrays, autograd=False)
    assert service.lines("POST") == PASSES
