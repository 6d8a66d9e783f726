"""From what people hold in their hands (lists, numpy, torch) to one read-only numpy array, copied once.

numpy is imported on first use: importing this package must stay cheap. torch is never imported here; a tensor is known
by its `detach` method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from loops_sdk.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DType = Literal["int64", "float32"]
DTYPES: tuple[DType, ...] = ("int64", "float32")


def as_array(value: Any, dtype: DType | None, name: str) -> NDArray[Any]:
    """A private, read-only, C-contiguous array of `dtype` (inferred when `None`) that keeps the shape of `value`."""
    import numpy as np

    array = _raw_array(value, name)
    target = dtype or ("float32" if array.dtype.kind == "f" else "int64")
    if target == "int64" and array.dtype.kind == "f":
        _require_integral(array, name)
    # `raw is value` only for numpy input; everything else is already a private copy of the right type or gets one here.
    result = np.array(array, dtype=target, order="C", copy=True if array is value else None)
    result.flags.writeable = False
    return result


def _raw_array(value: Any, name: str) -> NDArray[Any]:
    import numpy as np

    if hasattr(value, "detach"):  # a torch tensor: bfloat16 has no numpy type, so floats leave as float32
        tensor = value.detach()
        return np.array((tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy())
    try:
        array = value if isinstance(value, np.ndarray) else np.array(value)
    except ValueError as error:
        raise InvalidInputError(f"{name}: expected numbers in a regular shape, got {_shown(value)} ({error})") from None
    if array.size == 0 and not isinstance(value, np.ndarray):
        return array.astype("int64")
    if (
        array.dtype.kind == "u"
        and array.dtype.itemsize == 8
        and array.size
        and int(array.max()) > np.iinfo("int64").max
    ):
        raise InvalidInputError(f"{name}: {int(array.max())} does not fit into int64")
    if array.dtype.kind not in "iufb":
        raise InvalidInputError(f"{name}: expected integers or floats, got {_shown(value)}")
    return array


def _require_integral(array: NDArray[Any], name: str) -> None:
    import numpy as np

    wrong = array[~np.isfinite(array) | (array != np.trunc(array))]
    if wrong.size:
        raise InvalidInputError(f"{name}: dtype int64 was asked for, but {wrong.flat[0]!s} is not a whole number")


def token_array(value: Any, name: str) -> NDArray[np.int64]:
    """A one-dimensional int64 array of token ids, none of them negative."""
    array: NDArray[Any] = as_array(value, "int64", name)
    if array.ndim != 1:
        raise InvalidInputError(f"{name}: expected a flat sequence of token ids, got shape {list(array.shape)}")
    if array.size and int(array.min()) < 0:
        raise InvalidInputError(f"{name}: token ids are >= 0, got {int(array.min())}")
    return array


def same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """Equal type, shape and values; NaN equals NaN, because these are values and not measurements."""
    import numpy as np

    return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")


def brief(array: NDArray[Any], most: int = 6) -> str:
    """The first few values, for a `repr` that stays on one line."""
    shown = ", ".join(f"{value:.6g}" if array.dtype.kind == "f" else str(value) for value in array.flat[:most])
    return f"[{shown}, ...]" if array.size > most else f"[{shown}]"


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
