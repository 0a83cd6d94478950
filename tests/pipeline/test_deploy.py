from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

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
    core = open_bundle(bundles["jetson"]).core
    assert {name for name in core.sha256 if name.startswith("deploy/")} == {"deploy/build.sh"}


TRTEXEC = """#!{python}
import json, pathlib, sys
asked = dict(one.partition("=")[::2] for one in sys.argv[1:])
assert pathlib.Path(asked["--onnx"]).is_file()
pathlib.Path(asked["--saveEngine"]).write_text(json.dumps(sys.argv[1:]))
sys.exit("int4" in asked["--onnx"])
"""


@pytest.fixture
def building(tmp_path):
    """Run deploy/build.sh of a folder with a program in place of trtexec, from elsewhere."""
    program = tmp_path / "bin" / "trtexec"
    program.parent.mkdir()
    program.write_text(TRTEXEC.format(python=sys.executable))
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"

    def building(root):
        words = ["sh", str(root / "deploy" / "build.sh")]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, env={"PATH": path})
        assert done.returncode == 0, done.stderr
        return {file.stem: json.loads(file.read_text()) for file in (root / "engines").glob("*.engine")}, done.stderr

    return building


def test_the_engines_of_a_bundle_can_be_built_by_hand(bundles, tmp_path, building):
    """As the worker builds them: the arguments are those of `build_arguments`, which are held against each release."""
    root = shutil.copytree(bundles["jetson"], tmp_path / "moved")
    bundle = open_bundle(root)
    found, _ = building(root)
    assert set(found) == {variant.name for variant in bundle.core.variants}
    for name, arguments in found.items():
        assert {"--stronglyTyped", "--noTF32", f"--onnx=variants/{name}/model.onnx"} <= set(arguments)
    assert open_bundle(root).sha256 == bundle.sha256


def test_what_is_unproven_does_not_end_the_build_and_no_name_is_run(tmp_path, building):
    name = "x'; touch hacked; '"
    variants = []
    for precision, unproven in (("int4", "nobody tried"), ("int8", "")):
        part = Path("variants") / f"tensorrt-{precision}"
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "model.onnx").touch()
        profile = {bound: [size, 4] for bound, size in (("min", 1), ("opt", 1), ("max", 8))}
        told = {"schema": 2, "tensorrt": {"from": "10.3", "below": "12.0"}, "unproven": unproven}
        builder = {"profiling_verbosity": "detailed", "tf32": False, "sparse_weights": False}
        told |= {"profiles": [{name: profile}], "builder": builder}
        (tmp_path / part / "build.json").write_text(json.dumps(told))
        files = {"model": f"{part}/model.onnx", "build": f"{part}/build.json"}
        variants.append(Variant(part.name, "tensorrt", precision, files, {}, (), unproven))
    write_snippets(variants, (), (), {}, 1, tmp_path)
    found, said = building(tmp_path)
    assert f"--minShapes='{name}':1x4" in found["tensorrt-int8"]
    assert "tensorrt-int4 is not taken; it was unproven" in said
    assert not list(tmp_path.rglob("hacked"))


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
