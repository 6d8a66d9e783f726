"""Numbers, dense and sparse, from and to lists, numpy and torch."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker.types import TensorData

torch = pytest.importorskip("torch")

MATRICES = arrays.arrays(
    np.int64, st.tuples(st.integers(0, 6), st.integers(0, 40)), elements=st.sampled_from([0, 0, 0, 0, 0, -100, 3])
)


@given(MATRICES, st.sampled_from([0, -100, 3, 9]), st.sampled_from(["int64", "float32"]))
def test_a_sparse_tensor_is_the_dense_one(matrix: Any, pad: int, dtype: Any) -> None:
    dense = matrix.astype(dtype)
    tensor = TensorData.from_torch_sparse(torch.from_numpy(dense), pad)
    assert tensor.dtype == dtype
    assert tensor.shape == list(dense.shape)
    assert np.array_equal(tensor.to_numpy(pad), dense)
    assert torch.equal(tensor.to_torch(pad), torch.from_numpy(dense))
    assert tensor.tolist(pad) == dense.tolist()
    listed = np.count_nonzero(dense != pad)
    assert (tensor.sparse_crow_indices is not None) == (dense.shape[0] + 1 + 2 * listed < dense.size)
    again = TensorData.model_validate_json(tensor.model_dump_json())
    assert again.tolist(pad) == dense.tolist()
    assert again.sparse_col_indices == tensor.sparse_col_indices


@given(arrays.arrays(st.sampled_from(["i4", "i8", "f4"]), arrays.array_shapes(max_dims=3), elements=st.integers(-9, 9)))
def test_a_dense_tensor_keeps_values_and_shape(array: Any) -> None:
    tensor = TensorData.from_numpy(array)
    assert tensor.tolist() == array.tolist()
    assert tensor.data == array.reshape(-1).tolist()
    for twin in (copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor)), tensor.model_copy()):
        assert (twin.dtype, twin.shape, twin.tolist()) == (tensor.dtype, tensor.shape, tensor.tolist())
    assert TensorData.from_torch(torch.from_numpy(array)).tolist() == array.tolist()


def test_values_are_converted_to_the_type() -> None:
    assert TensorData([1.7, -1.7], "int64").data == [1, -1]
    assert TensorData([[1, 2], [3, 4]], "float32").to_numpy().tolist() == [[1.0, 2.0], [3.0, 4.0]]  # type: ignore[arg-type]
    assert TensorData(range(4), "int64", [2, 2]).tolist() == [[0, 1], [2, 3]]  # type: ignore[arg-type]
    assert TensorData(dtype="float32").data == []


def test_an_array_is_kept_and_one_that_must_not_be_written_is_copied() -> None:
    array = np.ones(2, "float32")
    assert TensorData.from_numpy(array).to_numpy() is array
    array.flags.writeable = False
    assert TensorData.from_numpy(array).to_torch().tolist() == [1.0, 1.0]


def test_torch_of_any_kind() -> None:
    assert TensorData.from_torch(torch.ones(2, dtype=torch.bfloat16)).dtype == "float32"
    assert TensorData.from_torch(torch.ones(2, requires_grad=True)).data == [1.0, 1.0]
    assert TensorData.from_torch(torch.arange(6).reshape(2, 3).T).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_two_tensors_are_not_the_same() -> None:
    tensor = TensorData([1], "int64")
    assert len({tensor, tensor, TensorData([1], "int64")}) == 2


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="dtype: TensorData needs it"):
        TensorData([1])
    with pytest.raises(InvalidInputError, match="dtype: expected 'int64' or 'float32', got 'float64'"):
        TensorData([1], "float64")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"shape: \[2\] does not hold the 3 values"):
        TensorData([1, 2, 3], "int64", [2])
    with pytest.raises(InvalidInputError, match="array: expected signed integers or floats, got bool"):
        TensorData.from_numpy(np.array([True]))


@pytest.mark.parametrize(
    ("rows", "columns", "shape"),
    [
        ([0, 1, 2], [0, 6], [2, 6]),
        ([0, 1, 2], [0, -1], [2, 6]),
        ([0, 2], [0, 1], [2, 6]),
        ([0, 3, 2], [0, 1], [2, 6]),
        ([1, 1, 2], [0, 1], [2, 6]),
        ([0, 1, 2], [0], [2, 6]),
        ([0, 1, 2], None, [2, 6]),
        ([0, 1, 2], [0, 1], None),
        ([0, 1, 2], [0, 1], [12]),
    ],
)
def test_indices_that_do_not_fit_are_refused(rows: list[int], columns: Any, shape: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^(shape|sparse_crow_indices): "):
        TensorData([7, 8], "int64", shape, rows, columns).to_numpy()


@pytest.mark.parametrize("pad", [True, 0.5, None, "0"])
def test_padding_is_a_whole_number(pad: Any) -> None:
    tensor = TensorData([7], "int64", [1, 9], [0, 1], [4])
    for call in (tensor.to_numpy, tensor.to_torch, tensor.tolist):
        with pytest.raises(TypeError, match="pad_value: expected a whole number"):
            call(pad)
    with pytest.raises(TypeError, match="pad_value"):
        TensorData.from_torch_sparse(torch.zeros(2, 2), pad)
    assert tensor.tolist(np.int64(-1)) == [[-1, -1, -1, -1, 7, -1, -1, -1, -1]]  # type: ignore[arg-type]
