"""A loss of the user's own: from the trainer's log-probabilities to the weights of a cross-entropy with its gradient.

The trainer's cross-entropy is -w l at every position, l the log-probability of the target, and its gradient by l is -w:
with w = -dL/dl the trainer accumulates the gradient of L. This module decides what a user's function may return. torch
is never imported here: a tensor is known by what it can do.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from loops_sdk._clients.passes import batch_of
from loops_sdk._clients.targets import counted, logprobs_of, questions
from loops_sdk._wire.bodies import ForwardBackwardBody
from loops_sdk.errors import InvalidInputError, UnsupportedError
from loops_sdk.types import CustomArrayLoss, CustomLoss, Datum, ForwardBackwardOutput, TensorData
from loops_sdk.types._arrays import as_array
from loops_sdk.types._checks import as_number, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CustomPass:
    """One call with a loss of the user's own: what is asked forward, and what follows from the answer.

    Raises:
        InvalidInputError: no batch, or no function.
        UnsupportedError: `autograd` without torch.
    """

    def __init__(self, data: Sequence[Datum], loss_fn: CustomLoss | CustomArrayLoss, *, autograd: bool) -> None:
        self._data = batch_of(data)
        self._loss_fn: Any = _function(loss_fn)
        self._differentiate = _by_autograd if _uses_torch(autograd) else _by_arrays
        self.asked = questions(self._data)

    def forward(self) -> ForwardBackwardBody:
        """The request for the log-probabilities. Only targets are sent."""
        return ForwardBackwardBody(self.asked)

    def evaluate(self, output: ForwardBackwardOutput) -> Evaluated:
        """Call the function; for a thread of its own.

        Raises:
            InvalidInputError: it returned something else than was promised.
            ProtocolError: the trainer's answer is not one log-probability per target.
            Exception: whatever the function raises.
        """
        logprobs = logprobs_of(output, self.asked)
        loss, gradients, metrics = self._differentiate(self._loss_fn, list(self._data), logprobs)
        weights = [
            _weights(f"logprobs[{index}]", gradient, counted(question))
            for index, (gradient, question) in enumerate(zip(gradients, self.asked, strict=True))
        ]
        return Evaluated(_finite_loss(loss), _metrics(metrics), logprobs, weights)

    def backward(self, evaluated: Evaluated) -> ForwardBackwardBody:
        """The request that accumulates the gradient of the function."""
        pairs = zip(self.asked, evaluated.weights, strict=True)
        return ForwardBackwardBody(
            [Datum(datum.model_input, {**datum.loss_fn_inputs, "weights": weights}) for datum, weights in pairs]
        )


@attrs.frozen
class Evaluated:
    """What the user's function gave, as numbers."""

    loss: float
    metrics: dict[str, float]
    logprobs: list[TensorData]
    weights: list[TensorData]

    def output(self, backward: ForwardBackwardOutput) -> ForwardBackwardOutput:
        """The result of the call: the function's loss and metrics, and beside them what the trainer says of the
        backward pass. Its own loss is that of the stand-in, and is left out.
        """
        kept = {name: value for name, value in backward.metrics.items() if name != "loss"}
        metrics = {**kept, **self.metrics, "loss:sum": self.loss}
        return ForwardBackwardOutput(self.loss, metrics, [{"logprobs": logprobs} for logprobs in self.logprobs])


# ------------------------------------------------------------------ before anything is sent


def _function(loss_fn: object) -> object:
    if not callable(loss_fn) or inspect.iscoroutinefunction(loss_fn):
        raise InvalidInputError(f"loss_fn: expected a plain function of (data, logprobs), got {shown(loss_fn)}")
    return loss_fn


def _uses_torch(autograd: object) -> bool:
    if not isinstance(autograd, bool):
        raise InvalidInputError(f"autograd: expected True or False, got {shown(autograd)}")
    if autograd and importlib.util.find_spec("torch") is None:
        raise UnsupportedError(
            "autograd: torch is not installed; install it, or pass autograd=False and a function that returns "
            "(loss, gradients, metrics)"
        )
    return autograd


# ------------------------------------------------------------------ calling the function


def _by_autograd(
    loss_fn: Any, data: list[Datum], logprobs: list[TensorData]
) -> tuple[object, list[NDArray[Any]], object]:
    leaves: list[Any] = [values.to_torch().requires_grad_() for values in logprobs]
    loss, metrics = _parts(loss_fn(data, list(leaves)), "(loss, metrics)")
    if not hasattr(loss, "backward"):
        raise InvalidInputError(
            f"loss_fn: expected the loss as a torch tensor (or gradients with autograd=False), got {shown(loss)}"
        )
    if loss.ndim:
        raise InvalidInputError(f"loss_fn: expected a scalar loss, got shape {list(loss.shape)}")
    if any(leaf.grad is not None for leaf in leaves):
        raise InvalidInputError("loss_fn: it called backward() itself; return the loss and leave that to the client")
    if loss.requires_grad:
        _finite_loss(loss)  # a loss that is not finite is told as such, rather than by its gradient
        loss.backward()
    if all(leaf.grad is None for leaf in leaves):
        raise InvalidInputError("loss_fn: the loss does not depend on logprobs, so it has no gradient (detached?)")
    return loss, [leaf.new_zeros(leaf.shape).numpy() if leaf.grad is None else leaf.grad for leaf in leaves], metrics


def _by_arrays(
    loss_fn: Any, data: list[Datum], logprobs: list[TensorData]
) -> tuple[object, list[NDArray[Any]], object]:
    given = [values.to_numpy() for values in logprobs]
    loss, gradients, metrics = _parts(loss_fn(data, list(given)), "(loss, gradients, metrics)")
    if not isinstance(gradients, list | tuple) or len(gradients) != len(given):
        told = f"{len(gradients)} of them" if isinstance(gradients, list | tuple) else shown(gradients)
        raise InvalidInputError(f"loss_fn: gradients: expected a list of {len(given)} arrays, got {told}")
    return loss, list(gradients), metrics


def _parts(result: Any, form: str) -> Any:
    if not isinstance(result, tuple) or len(result) != form.count(",") + 1:
        told = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        raise InvalidInputError(f"loss_fn: expected it to return {form}, got {told}")
    return result


# ------------------------------------------------------------------ what it returned


def _weights(name: str, gradient: object, scored: NDArray[np.bool_]) -> TensorData:
    """Minus the gradient, 0 where the target is ignored."""
    import numpy as np

    array = as_array(gradient, "float32", f"loss_fn: gradient of {name}")
    if array.shape != scored.shape:
        expected = f"expected shape {list(scored.shape)}, got {list(array.shape)}"
        raise InvalidInputError(f"loss_fn: gradient of {name}: {expected}")
    wrong = np.argwhere(scored & ~np.isfinite(array))
    if wrong.size:
        place = wrong[0].tolist()
        raise InvalidInputError(f"loss_fn: gradient of {name}: {array[tuple(place)]} at {place} is not finite")
    return TensorData(np.where(scored, -array, np.float32(0)))


def _finite_loss(value: object) -> float:
    loss = as_number("loss_fn: loss", value)
    if not math.isfinite(loss):
        raise InvalidInputError(f"loss_fn: expected a finite loss, got {loss}")
    return loss


def _metrics(metrics: object) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise InvalidInputError(f"loss_fn: metrics: expected numbers by name, got {shown(metrics)}")
    for name in metrics:
        if not isinstance(name, str):
            raise InvalidInputError(f"loss_fn: metrics: expected text as names, got {shown(name)}")
    return {name: as_number(f"loss_fn: metrics[{name!r}]", value) for name, value in metrics.items()}
