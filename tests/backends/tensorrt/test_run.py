from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edgeprune.backends import BUILD, EFFECTIVE, LOAD, TIMES
from edgeprune.errors import MissingError
from edgeprune.registry import resolve


def test_every_table_knows_the_runtime():
    assert all("tensorrt" in table for table in (BUILD, LOAD, EFFECTIVE, TIMES))


def test_where_tensorrt_is_missing_one_line_says_so_and_how_to_get_it():
    code = "import sys; sys.modules['tensorrt'] = None\nfrom edgeprune.backends.tensorrt import run"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("edgeprune.errors.MissingError: TensorRT is missing (")
    assert "JetPack brings it" in last
    assert "pip install 'edgeprune[tensorrt]'" in last


def test_a_worker_without_it_answers_that_it_is_missing_and_goes_on():
    commands = [
        {"command": "open", "backend": "tensorrt", "files": {"model": "m", "build": "b"}, "options": {}},
        {"command": "prepare", "backend": "ort"},
    ]
    try:
        resolve(LOAD, "tensorrt", "runtime")
    except MissingError:
        pass
    else:
        pytest.skip("TensorRT is here")
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.worker"],
        input="".join(json.dumps(one) + "\n" for one in commands),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["ok"], first["error"]) == (False, "MissingError")
    assert second == {"ok": True}
