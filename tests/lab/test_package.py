from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import edgeprune
from edgeprune.api import load
from edgeprune.backends.ort.profile import effective
from edgeprune.bundle import open_bundle
from edgeprune.lab.package import write_package


def test_equal_sources_are_equal_bytes(tmp_path):
    assert write_package(tmp_path / "a").read_bytes() == write_package(tmp_path / "b").read_bytes()


def test_it_holds_what_a_device_needs_and_no_more(tmp_path):
    names = zipfile.ZipFile(write_package(tmp_path / "a")).namelist()
    assert {"edgeprune/worker/worker.py", "edgeprune/backends/ort/run.py", "edgeprune/meters/rapl.py"} <= set(names)
    assert not [name for name in names if name.startswith(("edgeprune/lab", "edgeprune/cli", "edgeprune/pipeline"))]
    assert (tmp_path / "a").stat().st_size < 200_000


@pytest.fixture
def package(tmp_path) -> Path:
    return write_package(tmp_path / "edgeprune.pyz")


def test_python_runs_it_as_a_worker(package, tmp_path):
    done = subprocess.run(
        [sys.executable, "-I", str(package)], input='{"command": "probe"}\n', capture_output=True, text=True,
        check=True, cwd=tmp_path,
    )  # fmt: skip
    assert json.loads(done.stdout)["environment"]["versions"]["edgeprune"] == edgeprune.__version__


def test_it_answers_a_bundle_on_python_310_with_the_oldest_runtime(package, python310, bundles, tmp_path):
    """ONNX Runtime 1.23.2 and NumPy 1 are the last that a board with Python 3.10 gets."""
    versions = "import numpy, onnxruntime; print(numpy.__version__, onnxruntime.__version__)"
    numpy, runtime = subprocess.run([python310, "-c", versions], capture_output=True, text=True).stdout.split()
    assert numpy.startswith("1.")
    assert runtime == "1.23.2"
    bundle = open_bundle(bundles["cpu"])
    every = {one.name: one for one in (bundle.core.baseline, *bundle.core.variants)}.values()
    commands = []
    for one in every:
        opened = {"backend": one.backend, "files": one.files, "options": one.options, "threads": 1, "batch": 4}
        commands += [{"command": "open", **opened}, {"command": "evidence"}]
        commands += [{"command": "check", "samples": "samples.npz", "out": str(tmp_path / f"{one.name}.npz")}]
    done = subprocess.run(
        [python310, "-I", str(package)], input="".join(json.dumps(one) + "\n" for one in commands), text=True,
        capture_output=True, check=True, cwd=bundle.root,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(answer["ok"] for answer in answers), answers
    for one, evidence, check in zip(every, answers[1::3], answers[2::3], strict=True):
        layers = effective(evidence["evidence"], one.layers)
        assert [layer.effective for layer in layers] == [layer.intended for layer in layers]
        with np.load(tmp_path / f"{one.name}.npz") as found, np.load(bundle.root / "samples.npz") as samples:
            feeds = {spec.name: samples[spec.name] for spec in bundle.core.inputs}
            with load(bundle, one.name, batch=4) as runner:
                for name, array in runner.infer(feeds).items():
                    np.testing.assert_allclose(found[name], array, atol=1e-5 * np.abs(array).max())
        assert check["finite"]


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
