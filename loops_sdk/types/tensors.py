"""`TensorData`: the one array type of the API, a numpy array with a declared dtype and shape.

It decides what is accepted as a tensor. How one travels is the codec's business.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from loops_sdk.errors import InvalidInputError
from loops_sdk.types._arrays import DTYPES, DType, as_array, brief, content, same
from loops_sdk.types._checks import shown

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["TensorData"]


def _dims(shape: Any) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, shape))
    except TypeError:
        raise InvalidInputError(f"shape: expected a sequence of whole numbers, got {shown(shape)}") from None


@attrs.frozen(eq=False, repr=False, init=False)
class TensorData:
    """A dense tensor of `int64` or `float32` values.

    Args:
        data: the values: a list or tuple (nested lists give the shape), a numpy array or a torch tensor of any integer,
            float or bool type, on any device. Copied once.
        dtype: ``"int64"`` or ``"float32"``. Default: `float32` for floats, `int64` for integers and bools.
        shape: the dimensions. Default: the shape of `data`. Their product must be the number of values.

    Attributes:
        data: the values, flat, as a read-only numpy array.
        dtype: ``"int64"`` or ``"float32"``.
        shape: the dimensions as a tuple.

    Raises:
        InvalidInputError: values that are not numbers, fractions for `int64`, an unknown dtype, a shape that does not
            fit.
    """

    data: NDArray[Any]
    dtype: DType
    shape: tuple[int, ...]

    def __init__(self, data: Any, dtype: DType | None = None, shape: Sequence[int] | None = None) -> None:
        if dtype is not None and dtype not in DTYPES:
            raise InvalidInputError(f"dtype: expected one of {', '.join(DTYPES)}, got {shown(dtype)}")
        if isinstance(data, TensorData):
            data, shape = data.data, data.shape if shape is None else shape
        array = as_array(data, dtype, "data")
        dims = array.shape if shape is None else _dims(shape)
        if math.prod(dims) != array.size or min(dims, default=0) < 0:
            raise InvalidInputError(f"shape: {list(dims)} does not hold the {array.size} values of data")
        object.__setattr__(self, "data", array.reshape(-1))
        object.__setattr__(self, "dtype", "float32" if array.dtype.kind == "f" else "int64")
        object.__setattr__(self, "shape", dims)

    @classmethod
    def from_numpy(cls, array: NDArray[Any]) -> TensorData:
        """A tensor with the values and the shape of `array`, a numpy array of any integer, float or bool type."""
        return cls(array)

    @classmethod
    def from_torch(cls, tensor: torch.Tensor) -> TensorData:
        """A tensor with the values and the shape of `tensor` (any device, gradients detached, bf16 widened)."""
        return cls(tensor)

    def to_numpy(self) -> NDArray[Any]:
        """The values in their shape, as a read-only view."""
        return self.data.reshape(self.shape)

    def to_torch(self) -> torch.Tensor:
        """A new torch tensor with the values in their shape. Needs torch to be installed."""
        import torch

        return torch.from_numpy(self.to_numpy().copy())

    def tolist(self) -> list[Any]:
        """The values as (nested) Python lists."""
        values: list[Any] = self.to_numpy().tolist()
        return values

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TensorData):
            return NotImplemented
        return self.shape == other.shape and same(self.data, other.data)

    def __hash__(self) -> int:
        return hash((self.dtype, self.shape, content(self.data)))

    def __reduce__(self) -> tuple[Any, ...]:
        """By construction: an unpickled array would be writeable."""
        return TensorData, (self.data, self.dtype, self.shape)

    def __repr__(self) -> str:
        return f"TensorData({brief(self.data)}, dtype={self.dtype!r}, shape={list(self.shape)})"
