from __future__ import annotations

import ast
import shutil
import subprocess
import sys

import numpy as np
import pytest

from edgeprune.api import load
from edgeprune.bundle import Variant, open_bundle
from edgeprune.pipeline.deploy import write_snippets
from edgeprune.tensor import TensorSpec


def told(line: str) -> tuple[str, np.ndarray]:
    name, count, classes, *numbers = line.split()
    return name, np.array(numbers, np.float64).reshape(int(count), int(classes))


@pytest.mark.parametrize("variant", [None, "ort-fp32", "ort-int8"])
def test_the_lines_of_python_answer_as_the_bundle_does(bundles, tmp_path, variant):
    """Where there is no EdgePrune, and not from the folder of the bundle."""
    root = shutil.copytree(bundles["cpu"], tmp_path / "moved")
    bundle = open_bundle(root)
    words = [sys.executable, "-I", "deploy/run_ort.py", *([variant] if variant else [])]
    words[2] = str(root / words[2])
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name, found = told(done.stdout)
    with np.load(root / "samples.npz") as samples, load(bundle, variant or "ort-fp32") as runner:
        feeds = {spec.name: samples[spec.name][:1] for spec in bundle.core.inputs}
        np.testing.assert_allclose(found, runner.infer(feeds)[name], rtol=1e-6)


def test_there_are_some_for_each_runtime_that_is_lowered_to_here_and_hashed(bundles):
    core = open_bundle(bundles["cpu"]).core
    assert {name for name in core.sha256 if name.startswith("deploy/")} == {"deploy/run_ort.py", "deploy/run_ort.cpp"}
    assert "edgeprune" not in (bundles["cpu"] / "deploy" / "run_ort.py").read_text()
    made = {name for name in open_bundle(bundles["jetson"]).core.sha256 if name.startswith("deploy/run_ort")}
    assert made == set()


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_names_of_tensors_stay_text(tmp_path, backend):
    name = 'x"]); import os\nos.abort() #\\'
    variant = Variant(f"{backend}-fp32", backend, "fp32", {"model": "m.onnx"}, {"INFERENCE_PRECISION_HINT": "f32"}, ())
    inputs = (TensorSpec(name, "int64", ("batch", "length")), TensorSpec("limit", "float32", ("batch", 2)))
    samples = {name: np.zeros((4, 7), np.int64), "limit": np.zeros((4, 2), np.float32)}
    write_snippets([variant], inputs, (TensorSpec('y"', "float32", ("batch", 3)),), samples, 2, tmp_path)
    tree = ast.parse((tmp_path / "deploy" / f"run_{backend}.py").read_text())
    assert name in {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert "abort" not in {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    lines = (tmp_path / "deploy" / f"run_{backend}.cpp").read_text().splitlines()
    assert not [line for line in lines if line.startswith("os.abort")]
    assert any("{1, 7}" in line for line in lines)
