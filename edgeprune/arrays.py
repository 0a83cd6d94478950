"""Arrays by name in an .npz file, whatever their names are."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np


def save_arrays(path: str | PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write what `numpy.load` reads. A tensor may be called `file`, which `numpy.savez` takes for a word of its own."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
