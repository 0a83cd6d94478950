from __future__ import annotations

import numpy as np
import pytest

from edgeprune.data.tensors import Tensors
from edgeprune.errors import DataError
from edgeprune.tensor import TensorSpec

GIVEN = Tensors((TensorSpec("a", "float32", ("batch", 3)), TensorSpec("b", "int64", ("batch",))))


def test_arrays_are_given_as_they_are():
    columns = {"a": np.ones((2, 3), np.float32), "b": np.arange(2), "other": np.zeros(2)}
    found = GIVEN(columns)
    assert found.keys() == {"a", "b"}
    assert all(found[name] is columns[name] for name in found)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": np.ones((2, 3), np.float32)}, "array 'b' is needed: there is a"),
        ({"a": np.ones((2, 4), np.float32), "b": np.arange(2)}, r"'a' is float32 \[2, 4\], not a float32\[batch, 3\]"),
        ({"a": np.ones((2, 3)), "b": np.arange(2)}, "'a' is float64"),
    ],
)
def test_others_are_refused(columns, said):
    with pytest.raises(DataError, match=said):
        GIVEN(columns)
