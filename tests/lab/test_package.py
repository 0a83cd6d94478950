from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import edgeprune
from edgeprune.lab.package import write_package


def test_equal_sources_are_equal_bytes(tmp_path):
    assert write_package(tmp_path / "a").read_bytes() == write_package(tmp_path / "b").read_bytes()


def test_it_holds_what_a_device_needs_and_no_more(tmp_path):
    names = zipfile.ZipFile(write_package(tmp_path / "a")).namelist()
    assert {"edgeprune/worker/worker.py", "edgeprune/backends/ort/run.py", "edgeprune/meters/rapl.py"} <= set(names)
    assert not [name for name in names if name.startswith(("edgeprune/lab", "edgeprune/cli", "edgeprune/pipeline"))]
    assert (tmp_path / "a").stat().st_size < 200_000


def test_a_worker_runs_from_it_where_there_is_no_other_edgeprune(tmp_path):
    package = write_package(tmp_path / "edgeprune.pyz")
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.worker"],
        input='{"command": "prepare", "backend": "ort"}\n{"command": "probe"}\n',
        capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(package)},
    )  # fmt: skip
    prepared, probed = map(json.loads, done.stdout.splitlines())
    assert prepared == {"ok": True}
    assert probed["environment"]["versions"]["edgeprune"] == edgeprune.__version__
