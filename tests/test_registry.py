from __future__ import annotations

import pytest

from edgeprune.errors import MissingError, UnknownNameError
from edgeprune.registry import require, resolve, unknown

TABLE = {"prefix": "os.path:commonprefix", "dump": "json:dump"}


def test_a_name_in_the_table_is_imported_and_returned():
    import json

    assert resolve(TABLE, "dump", "function") is json.dump


def test_a_name_that_is_not_there_names_the_nearest_and_all():
    with pytest.raises(UnknownNameError) as caught:
        resolve(TABLE, "prefx", "function", hint="or a path")
    assert str(caught.value) == "unknown function 'prefx': did you mean 'prefix'? known: dump, prefix; or a path"


def test_a_name_near_to_none_names_all():
    assert str(unknown("runtime", "zzz", ["ort", "openvino"])) == "unknown runtime 'zzz': known: openvino, ort"


def test_what_is_installed_is_not_missed():
    require("json", "numpy", extra="compile")


def test_what_is_not_installed_is_named_with_the_command_that_gets_it():
    with pytest.raises(MissingError, match=r"not installed: no_such_module: pip install 'edgeprune\[ort\]'"):
        require("json", "no_such_module", extra="ort")
