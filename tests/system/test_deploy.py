"""The lines of C++ in a bundle, compiled and run with a runtime's own headers and library, and no EdgePrune."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgeprune.api import load, recipe_with
from edgeprune.bundle import Bundle
from edgeprune.cache import StageCache
from edgeprune.interleaved.settings import Settings
from edgeprune.pipeline.compile import compile_bundle
from edgeprune.targets.load import load_target

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("deploy")
    quick = Settings(restarts=1, seconds=0.02, rounds=2, energy_s=0)
    made, _ = compile_bundle(
        recipe_with({"epochs": 1, "max_drop": 100.0}), load_target("cpu"), out=folder / "bundle",
        cache=StageCache(folder / "cache"), settings=quick,
    )  # fmt: skip
    return made


def package(name: str) -> Path:
    found = find_spec(name)
    if found is None or found.origin is None:
        pytest.skip(f"{name} is not installed")
    return Path(found.origin).parent


def ort_headers() -> Path:
    """Its wheel has none: those of `.ci/ort-headers`, or where Debian's libonnxruntime-dev puts them."""
    for place in (ROOT / "build" / "ort-headers" / "include", Path("/usr/include/onnxruntime")):
        if (place / "onnxruntime_cxx_api.h").is_file():
            return place
    pytest.skip("no C++ headers of ONNX Runtime: .ci/ort-headers build/ort-headers")


def ort_library(folder: Path) -> Path:
    """The wheel's, under the name that programs look for it by."""
    library = folder / "libonnxruntime.so.1"
    library.symlink_to(next((package("onnxruntime") / "capi").glob("libonnxruntime.so.1*")))
    return library


def compiled(source: Path, include: Path, library: Path, out: Path) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++: apt-get install g++")
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", f"-isystem{include}"]
    words = ["g++", *flags, str(source), str(library), f"-Wl,-rpath,{library.parent}", "-o", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def answered(words: list[str], folder: Path) -> tuple[str, np.ndarray]:
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    name, count, classes, *numbers = done.stdout.split()
    return name, np.array(numbers, np.float64).reshape(int(count), int(classes))


def check(program: Path, bundle: Bundle, backend: str, folder: Path) -> None:
    """In every precision it answers as EdgePrune and the lines of Python do."""
    with np.load(bundle.root / "samples.npz") as samples:
        feeds = {spec.name: samples[spec.name][:1] for spec in bundle.core.inputs}
    files = []
    for number, array in enumerate(feeds.values()):
        array.tofile(folder / f"{number}.bin")
        files.append(str(folder / f"{number}.bin"))
    for precision in ("fp32", "int8"):
        variant = bundle.variant(f"{backend}-{precision}")
        hint = [variant.options["INFERENCE_PRECISION_HINT"]] if backend == "openvino" else []
        name, found = answered([str(program), str(bundle.files(variant)["model"]), *hint, *files], folder)
        with load(bundle, variant.name) as runner:
            np.testing.assert_allclose(found, runner.infer(feeds)[name], rtol=1e-5, atol=1e-5)
        lines = [sys.executable, "-I", str(bundle.root / "deploy" / f"run_{backend}.py"), variant.name]
        np.testing.assert_allclose(answered(lines, folder)[1], found, rtol=1e-5, atol=1e-5)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False, cwd=folder)
    assert (done.returncode, "give the model" in done.stderr) == (1, True)


def test_cpp_with_onnx_runtime_answers_as_the_bundle_does(bundle, tmp_path):
    source = bundle.root / "deploy" / "run_ort.cpp"
    check(compiled(source, ort_headers(), ort_library(tmp_path), tmp_path / "run"), bundle, "ort", tmp_path)


def test_cpp_with_openvino_answers_as_the_bundle_does(bundle, tmp_path):
    place = package("openvino")
    library = next((place / "libs").glob("libopenvino.so*"))
    source = bundle.root / "deploy" / "run_openvino.cpp"
    check(compiled(source, place / "include", library, tmp_path / "run"), bundle, "openvino", tmp_path)
