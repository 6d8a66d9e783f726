"""From what people hold in their hands (lists, numpy, torch) to one read-only numpy array, copied once.

numpy is imported on first use: importing this package must stay cheap. torch is never imported here; a tensor is known
by its `detach` method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from loops_sdk.errors import InvalidInputError
from loops_sdk.types._checks import shown

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
    try:
        with np.errstate(over="raise"):
            result = np.array(array, dtype=target, order="C", copy=True if array is value else None)
    except FloatingPointError:
        raise InvalidInputError(f"{name}: {array.flat[np.abs(array).argmax()]!s} does not fit into float32") from None
    result.flags.writeable = False
    return result


def _raw_array(value: Any, name: str) -> NDArray[Any]:
    import numpy as np

    try:
        array = _as_numpy(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InvalidInputError(f"{name}: expected numbers in a regular shape, got {_shown(value)} ({error})") from None
    if array.size == 0 and isinstance(value, list | tuple):
        return array.astype("int64")
    if (
        array.dtype.kind == "u"
        and array.dtype.itemsize == 8
        and array.size
        and int(array.max()) > np.iinfo("int64").max
    ):
        raise InvalidInputError(f"{name}: {int(array.max())} does not fit into int64")
    if hasattr(array, "mask"):  # numpy's masked array, whose mask would be lost
        raise InvalidInputError(f"{name}: expected plain numbers, got a masked array; fill it first")
    if array.dtype.kind not in "iufb":
        raise InvalidInputError(f"{name}: expected integers or floats, got {_shown(value)}")
    return array


def _as_numpy(value: Any) -> NDArray[Any]:
    import numpy as np

    if hasattr(value, "detach"):
        return _from_torch(value)
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.array(value)
    except (TypeError, RuntimeError):  # tensors in lists: numpy knows no bfloat16, no gradient and no GPU
        return np.array(_without_tensors(value))


def _without_tensors(value: Any) -> Any:
    if hasattr(value, "detach"):
        return _from_torch(value)
    return [_without_tensors(one) for one in value] if isinstance(value, list | tuple) else value


def _from_torch(tensor: Any) -> NDArray[Any]:
    """Copied, because the tensor keeps its memory. bfloat16 has no numpy type, so such floats leave as float32."""
    tensor = tensor.detach().cpu().resolve_neg()
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array.copy()


def _require_integral(array: NDArray[Any], name: str) -> None:
    import numpy as np

    wrong = array[~np.isfinite(array) | (array != np.trunc(array)) | (np.abs(array) >= 2.0**63)]
    if wrong.size:
        raise InvalidInputError(f"{name}: dtype int64 was asked for, but {wrong.flat[0]!s} is not such a whole number")


def token_array(value: Any, name: str) -> NDArray[np.int64]:
    """A one-dimensional int64 array of token ids, none of them negative."""
    if isinstance(value, str):
        raise InvalidInputError(
            f"{name}: expected token ids, got text {shown(value)}; tokenizer.encode(text) gives them, with the "
            f"tokenizer of the client's get_tokenizer"
        )
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


def content(array: NDArray[Any]) -> bytes:
    """Bytes that are equal for arrays that are `same`: there is one zero and one NaN."""
    import numpy as np

    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type("nan"), array + array.dtype.type(0))
    return array.tobytes()


def brief(array: NDArray[Any], most: int = 6) -> str:
    """The first few values, for a `repr` that stays on one line."""
    shown = ", ".join(f"{value:.6g}" if array.dtype.kind == "f" else str(value) for value in array.flat[:most])
    return f"[{shown}, ...]" if array.size > most else f"[{shown}]"


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {shown(value)}"
