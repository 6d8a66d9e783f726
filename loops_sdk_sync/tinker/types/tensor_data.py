"""`TensorData`: numbers with a declared type and shape, dense or as compressed sparse rows (CSR).

It decides which numbers a tensor holds. numpy and torch are imported by whom asks for them.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker.types._model import Value

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["TensorData", "TensorDtype"]

TensorDtype: TypeAlias = Literal["int64", "float32"]


@dataclass(frozen=True, eq=False, init=False)
class TensorData(Value):
    """A tensor. Two are equal only if they are the same object, as in the original; compare `to_numpy()`.

    Args:
        data: the values, as a list (nested ones give the shape) or a numpy array, which is kept and not copied if its
            type fits; of a sparse tensor the listed values only. Default: none.
        dtype: ``"int64"`` or ``"float32"``. Values are converted to it; fractions are cut off for ``"int64"``.
        shape: the dimensions. Needed for a sparse tensor; otherwise `None` takes the values as they are.
        sparse_crow_indices: makes the tensor sparse: where each row begins in `data`, and at last their number.
        sparse_col_indices: of a sparse tensor the column of each value in `data`.

    Attributes:
        data: the values, flat, as a list; it is made anew each time.
        dtype, shape, sparse_crow_indices, sparse_col_indices: as given.

    Raises:
        TypeError: no `dtype`.
        ValueError: another `dtype`, or a shape that does not hold the values.
    """

    dtype: TensorDtype
    shape: list[int] | None = None
    sparse_crow_indices: list[int] | None = None
    sparse_col_indices: list[int] | None = None
    _numpy: NDArray[Any] = field(repr=False)  # type: ignore[misc]

    def __init__(
        self,
        data: list[int] | list[float] | NDArray[Any] | None = None,
        dtype: TensorDtype | None = None,
        shape: list[int] | None = None,
        sparse_crow_indices: list[int] | None = None,
        sparse_col_indices: list[int] | None = None,
    ) -> None:
        import numpy as np

        if dtype is None:
            raise TypeError("dtype: TensorData needs it, 'int64' or 'float32'")
        if dtype not in ("int64", "float32"):
            raise InvalidInputError(f"dtype: expected 'int64' or 'float32', got {dtype!r}")
        array = np.asarray([] if data is None else data, dtype=dtype)
        if not array.flags.writeable:  # torch warns of memory that it must not write
            array = array.copy()
        if sparse_crow_indices is None and shape is not None and list(array.shape) != list(shape):
            array = _reshaped(array, shape)
        given = (dtype, shape, sparse_crow_indices, sparse_col_indices, array)
        for name, value in zip(TensorData.__dataclass_fields__, given, strict=True):
            object.__setattr__(self, name, value)

    @property
    def data(self) -> list[int] | list[float]:
        """The values, flat, as a list; of a sparse tensor the listed ones."""
        values: list[int] | list[float] = self._numpy.reshape(-1).tolist()
        return values

    @classmethod
    def from_numpy(cls, array: NDArray[Any]) -> TensorData:
        """A dense tensor with the values and the shape of `array`.

        Args:
            array: signed integers, which become ``"int64"``, or floats, which become ``"float32"``.

        Raises:
            InvalidInputError: an array of another type.
        """
        dtypes: dict[str, TensorDtype] = {"i": "int64", "f": "float32"}
        if array.dtype.kind not in dtypes:
            raise InvalidInputError(f"array: expected signed integers or floats, got {array.dtype}")
        return cls(array, dtypes[array.dtype.kind], list(array.shape))

    @classmethod
    def from_torch(cls, tensor: torch.Tensor) -> TensorData:
        """A dense tensor with the values and the shape of `tensor`, from any device, without its gradient."""
        return cls.from_numpy(_numpy_of(tensor))

    @classmethod
    def from_torch_sparse(cls, tensor: torch.Tensor, pad_value: int = 0) -> TensorData:
        """A tensor that lists only what differs from `pad_value`, if it has two dimensions and that takes less room.

        Args:
            tensor: the values, dense.
            pad_value: the whole number that is left out; give the same one when converting back.

        Raises:
            TypeError: `pad_value` is no whole number.
        """
        import numpy as np

        pad_value, dense = _checked_pad(pad_value), _numpy_of(tensor)
        listed = dense != pad_value if dense.ndim == 2 else dense
        if dense.ndim != 2 or len(dense) + 1 + 2 * np.count_nonzero(listed) >= dense.size:
            return cls.from_numpy(dense)
        whole = cls.from_numpy(dense)
        rows = [0, *np.cumsum(listed.sum(axis=1)).tolist()]
        return cls(dense[listed], whole.dtype, whole.shape, rows, np.nonzero(listed)[1].tolist())

    def to_numpy(self, pad_value: int = 0) -> NDArray[Any]:
        """The values in their shape; of a dense tensor the array itself, not a copy.

        Args:
            pad_value: the whole number that a sparse tensor has where it lists nothing.

        Raises:
            TypeError: `pad_value` is no whole number.
            InvalidInputError: the indices of a sparse tensor do not fit together.
        """
        return self._numpy if self.sparse_crow_indices is None else self._dense(_checked_pad(pad_value))

    def to_torch(self, pad_value: int = 0) -> torch.Tensor:
        """The values in their shape as a torch tensor, which shares memory with a dense `TensorData`.

        Args:
            pad_value: as in `to_numpy`.

        Raises:
            TypeError, InvalidInputError: as in `to_numpy`.
            ImportError: torch is not installed.
        """
        import torch

        return torch.from_numpy(self.to_numpy(pad_value))

    def tolist(self, pad_value: int = 0) -> list[Any]:
        """The values as (nested) lists.

        Args:
            pad_value: as in `to_numpy`.
        """
        values: list[Any] = self.to_numpy(pad_value).tolist()
        return values

    def _dense(self, pad_value: int) -> NDArray[Any]:
        import numpy as np

        shape, starts, columns = self.shape or [], np.asarray(self.sparse_crow_indices), self.sparse_col_indices
        values = self._numpy.reshape(-1)
        if len(shape) != 2 or columns is None:
            raise InvalidInputError("shape: a sparse tensor needs two dimensions, and sparse_col_indices")
        counts = np.diff(starts)
        whole = starts.size == shape[0] + 1 and starts[0] == 0 and starts[-1] == len(columns) == values.size
        if not whole or (counts < 0).any() or not all(0 <= column < shape[1] for column in columns):
            raise InvalidInputError(f"sparse_crow_indices: they do not place {values.size} values in shape {shape}")
        dense = np.full(shape, pad_value, dtype=self.dtype)
        dense[np.repeat(np.arange(shape[0]), counts), np.asarray(columns, dtype="int64")] = values
        return dense


def _reshaped(array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    try:
        return array.reshape(shape)
    except (ValueError, TypeError):
        raise InvalidInputError(f"shape: {list(shape)} does not hold the {array.size} values of data") from None


def _numpy_of(tensor: torch.Tensor) -> NDArray[Any]:
    """bfloat16 has no numpy type, so it leaves as float32."""
    tensor = tensor.detach().cpu().resolve_neg()
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()
    return array


def _checked_pad(pad_value: Any) -> int:
    if isinstance(pad_value, bool) or not hasattr(pad_value, "__index__"):
        raise TypeError(f"pad_value: expected a whole number, got {pad_value!r}")
    return operator.index(pad_value)
