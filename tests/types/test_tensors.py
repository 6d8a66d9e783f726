"""`TensorData`: what it accepts, what it refuses and how it says so, and that nobody can change one afterwards."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from loops_sdk import InvalidInputError, TensorData

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64"]


@pytest.mark.parametrize("given", [[1, 2, 3], (1, 2, 3), range(1, 4), np.array([1, 2, 3]), torch.tensor([1, 2, 3])])
def test_whole_numbers_become_int64(given: Any) -> None:
    tensor = TensorData(given)
    assert (tensor.tolist(), tensor.dtype, tensor.shape) == ([1, 2, 3], "int64", (3,))
    assert tensor.data.dtype == np.int64


@pytest.mark.parametrize("given", [[1.5, 2], (1.5, 2.0), np.array([1.5, 2]), torch.tensor([1.5, 2.0])])
def test_fractions_become_float32(given: Any) -> None:
    tensor = TensorData(given)
    assert (tensor.tolist(), tensor.dtype) == ([1.5, 2.0], "float32")
    assert tensor.data.dtype == np.float32


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
@pytest.mark.parametrize("make", [np.array, lambda values, dtype: torch.tensor(values, dtype=getattr(torch, dtype))])
def test_every_integer_type(make: Callable[..., Any], dtype: str) -> None:
    assert TensorData(make([0, 1], dtype=dtype)) == TensorData([0, 1])
    assert TensorData(make([0, 1], dtype=dtype), dtype="float32").dtype == "float32"


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_float_type_of_numpy(dtype: str) -> None:
    assert TensorData(np.array([0.5, -2], dtype=dtype)) == TensorData([0.5, -2.0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
def test_every_float_type_of_torch_also_with_a_gradient(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0.5, -2.0]], dtype=dtype, requires_grad=True)
    assert TensorData(tensor * 1) == TensorData([[0.5, -2.0]])


def test_a_list_of_torch_scalars() -> None:
    assert TensorData([torch.tensor(1), torch.tensor(2)]) == TensorData([1, 2])


TENSORS: dict[str, Callable[[float], torch.Tensor]] = {
    "plain": torch.tensor,
    "bfloat16": lambda value: torch.tensor(value, dtype=torch.bfloat16),
    "with a gradient": lambda value: torch.tensor(value, requires_grad=True) * 1,
    "a parameter": lambda value: torch.nn.Parameter(torch.tensor(value)),
    "negated by a flag": lambda value: torch._neg_view(torch.tensor(-value)),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_lists_of_torch_tensors(kind: str) -> None:
    one, two = TENSORS[kind](0.5), TENSORS[kind](-2.0)
    assert TensorData([one, two]) == TensorData([0.5, -2.0])
    assert TensorData((one, 3, 4.0)) == TensorData([0.5, 3.0, 4.0])
    assert TensorData([[one, two], (two, 1)]) == TensorData([[0.5, -2.0], [-2.0, 1.0]])
    assert TensorData([torch.stack([one, two]), torch.stack([two, two])]) == TensorData([[0.5, -2.0], [-2.0, -2.0]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bfloat16])
def test_tensors_on_a_gpu(dtype: torch.dtype) -> None:
    tensor = torch.tensor([1, 2], dtype=dtype, device="cuda")
    assert TensorData(tensor).tolist() == TensorData(list(tensor)).tolist() == [1, 2]


ODD_ARRAYS = {
    "numpy scalars": ([np.float16(1), np.int8(2), 3], [1.0, 2.0, 3.0]),
    "numpy rows": ([np.array([1, 2]), np.array([3, 4])], [[1, 2], [3, 4]]),
    "big-endian": (np.array([1, 2], dtype=">i4"), [1, 2]),
    "with a stride": (np.arange(6)[::2], [0, 2, 4]),
    "backwards": (np.arange(3)[::-1], [2, 1, 0]),
    "read-only, without memory of its own": (np.broadcast_to(np.float32(1.5), 3), [1.5, 1.5, 1.5]),
    "long double": (np.array([1.5], dtype=np.longdouble), [1.5]),
    "expanded torch": (torch.tensor(1.5).expand(3), [1.5, 1.5, 1.5]),
    "transposed torch": (torch.tensor([[1, 2], [3, 4]]).T, [[1, 3], [2, 4]]),
    "inference torch": (torch.inference_mode()(lambda: torch.ones(2))(), [1.0, 1.0]),
    "bools and numbers": ([True, 2], [1, 2]),
    "deep tuples": ((((1,), (2,)),), [[[1], [2]]]),
    "no columns": ([[], []], [[], []]),
}


@pytest.mark.parametrize("kind", ODD_ARRAYS)
def test_odd_memory(kind: str) -> None:
    given, wanted = ODD_ARRAYS[kind]
    tensor = TensorData(given)
    assert tensor == TensorData(wanted)
    assert tensor.tolist() == wanted
    assert tensor.data.flags.c_contiguous
    assert tensor.data.dtype == np.dtype(tensor.dtype)


def test_a_scalar_and_empty_ones() -> None:
    assert (TensorData(3).shape, len(TensorData(3)), TensorData(3).tolist()) == ((), 1, 3)
    assert (TensorData([]).dtype, TensorData([]).shape) == ("int64", (0,))
    assert TensorData([], dtype="float32").dtype == "float32"
    assert TensorData(np.zeros((2, 0), dtype=np.float64)).shape == (2, 0)


def test_shape_is_taken_from_nesting_or_given() -> None:
    nested = TensorData([[1, 2, 3], [4, 5, 6]])
    assert nested.shape == (2, 3)
    assert len(nested) == 2
    assert TensorData([1, 2, 3, 4, 5, 6], shape=torch.Size([2, 3])) == nested
    assert TensorData(nested) == nested
    assert TensorData(nested, shape=[3, 2]).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert TensorData(np.array([[1, 4], [2, 5], [3, 6]]).T).data.tolist() == [1, 2, 3, 4, 5, 6]


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "text": (lambda: TensorData("abc"), r"^data: expected integers or floats, got str 'abc'$"),
    "nothing": (lambda: TensorData(None), r"^data: expected integers or floats, got NoneType None$"),
    "ragged": (lambda: TensorData([[1], [1, 2]]), r"^data: expected numbers in a regular shape, got list"),
    "long": (lambda: TensorData(["x" * 99]), r"^data: .* got list \['x{55}\.\.\.$"),
    "complex numpy": (lambda: TensorData(np.array([1j])), r"^data: expected integers or floats, got ndarray"),
    "complex torch": (lambda: TensorData(torch.tensor([1j])), r"^data: expected integers or floats, got Tensor"),
    "ragged tensors": (lambda: TensorData([torch.ones(2), torch.ones(3)]), r"^data: expected numbers in a regular"),
    "ragged gradients": (
        lambda: TensorData([torch.ones(2, requires_grad=True), torch.ones(3)]),
        r"^data: expected numbers in a regular shape, got list",
    ),
    "masked": (
        lambda: TensorData(np.ma.array([1, 2], mask=[0, 1])),
        r"^data: expected plain numbers, got a masked array; fill it first$",
    ),
    "none among numbers": (lambda: TensorData([1, None]), r"^data: expected integers or floats, got list \[1, None\]$"),
    "generator": (lambda: TensorData(iter([1])), r"^data: expected integers or floats, got list_iterator"),
    "set": (lambda: TensorData({1, 2}), r"^data: expected integers or floats, got set \{1, 2\}$"),
    "sparse": (lambda: TensorData(torch.eye(2).to_sparse()), r"^data: expected numbers in a regular shape, got Tensor"),
    "meta": (lambda: TensorData(torch.empty(2, device="meta")), r"^data: expected numbers in a regular shape, got"),
    "uint64": (lambda: TensorData([2**63]), r"^data: 9223372036854775808 does not fit into int64$"),
    "uint64 torch": (lambda: TensorData(torch.tensor([2**63], dtype=torch.uint64)), r"^data: .* into int64$"),
    "bigger": (lambda: TensorData([2**70]), r"^data: expected integers or floats"),
    "fraction": (lambda: TensorData([1.0, 2.5], dtype="int64"), r"^data: dtype int64 .* 2\.5 is not such a whole"),
    "nan": (lambda: TensorData([float("nan")], dtype="int64"), r"^data: dtype int64 .* nan is not such a whole"),
    "inf": (lambda: TensorData([float("inf")], dtype="int64"), r"^data: dtype int64 .* inf is not such a whole"),
    "huge": (lambda: TensorData([1e30], dtype="int64"), r"^data: dtype int64 .* 1e\+30 is not such a whole"),
    "overflow": (lambda: TensorData([1.0, -1e300]), r"^data: -1e\+300 does not fit into float32$"),
    "dtype": (lambda: TensorData([1], dtype="int32"), r"^dtype: expected one of int64, float32, got 'int32'$"),
    "shape": (lambda: TensorData([1, 2], shape=[3]), r"^shape: \[3\] does not hold the 2 values of data$"),
    "negative": (lambda: TensorData([1, 2], shape=[-1, -2]), r"^shape: \[-1, -2\] does not hold"),
    "broken shape": (lambda: TensorData([1, 2], shape=[2.0]), r"^shape: expected a sequence of whole numbers, got"),
    "no shape": (lambda: TensorData([1, 2], shape=2), r"^shape: expected a sequence of whole numbers, got 2$"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_the_copy_is_private() -> None:
    array, tensor = np.array([1, 2]), torch.tensor([1.0, 2.0])
    values = [TensorData(array), TensorData(tensor), TensorData(tensor.double())]
    array[0], tensor[0] = 9, 9.0
    assert [value.tolist()[0] for value in values] == [1, 1, 1]


@pytest.mark.parametrize("make", [lambda t: t, copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_the_values_are_read_only_also_in_copies(make: Callable[[TensorData], TensorData]) -> None:
    original = TensorData([[1.0, float("nan")]])
    tensor = make(original)
    assert tensor == original
    with pytest.raises(ValueError, match="read-only"):
        tensor.data[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        tensor.to_numpy()[0, 0] = 5
    with pytest.raises(AttributeError):
        tensor.shape = (2,)


def test_out_again() -> None:
    tensor = TensorData([[1.5, 2.0]])
    out = tensor.to_torch()
    out[0, 0] = 9  # a tensor of its own
    assert tensor.tolist() == [[1.5, 2.0]]
    assert (out.dtype, tuple(out.shape)) == (torch.float32, (1, 2))
    assert TensorData([1]).to_torch().dtype == torch.int64
    assert TensorData.from_torch(tensor.to_torch()) == tensor == TensorData.from_numpy(tensor.to_numpy())


def test_equality_goes_by_type_shape_and_values() -> None:
    assert TensorData([1, 2]) != TensorData([1.0, 2.0])
    assert TensorData([1, 2]) != TensorData([[1, 2]])
    assert TensorData([1, 2]) != [1, 2]
    assert TensorData([float("nan")]) == TensorData([float("nan")])


def test_what_is_equal_has_one_hash() -> None:
    odd_nan = np.array([0x7FC00001], dtype=np.uint32).view(np.float32)
    assert TensorData(odd_nan) == TensorData([float("nan")])
    assert len({TensorData(odd_nan), TensorData([float("nan")])}) == 1
    assert len({TensorData([0.0]), TensorData([-0.0]), TensorData([1.0])}) == 2


def test_repr_is_one_short_line() -> None:
    assert repr(TensorData([1, 2])) == "TensorData([1, 2], dtype='int64', shape=[2])"
    long = repr(TensorData(np.linspace(0, 1, 1000)))
    assert long.startswith("TensorData([0, 0.001001, ")
    assert long.endswith("...], dtype='float32', shape=[1000])")
