from __future__ import annotations

import numpy as np
import pytest

from edgeprune.arrays import save_arrays


@pytest.mark.parametrize(
    "name", ["file", "allow_pickle", "args", "self", "arr_0", "x.npy", "a/b:0", "../up", "ä b", "'"]
)
def test_an_array_is_read_again_by_whatever_name_it_was_written(tmp_path, name):
    given = {name: np.arange(6, dtype=np.float32).reshape(2, 3), "other": np.array([True])}
    save_arrays(tmp_path / "a.npz", given)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file.files == list(given)
        for key, array in given.items():
            np.testing.assert_array_equal(file[key], array, strict=True)


def test_the_bytes_are_those_that_numpy_writes(tmp_path):
    given = {"x": np.ones((2, 3), np.float32), "ids": np.arange(4)}
    save_arrays(tmp_path / "ours.npz", given)
    np.savez(tmp_path / "theirs.npz", **given)
    assert (tmp_path / "ours.npz").read_bytes() == (tmp_path / "theirs.npz").read_bytes()


def test_objects_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        save_arrays(tmp_path / "a.npz", {"x": np.array([object()])})
