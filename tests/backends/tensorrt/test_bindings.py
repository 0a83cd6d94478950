"""Our calls are ones that the real bindings of TensorRT 10.3, 10.16 and 11.4 have, by name and signature.

The bindings import without NVIDIA's libraries where a few C symbols stand in for them; nothing is computed. Get them by

    python -m pip install --no-deps --target DIR/10.3 tensorrt-cu12-bindings==10.3.0     (and 10.16, 11.4)

and EDGEPRUNE_TENSORRT_BINDINGS=DIR; `.ci/run` does that. NVIDIA's licence is proprietary: they are never shipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.backends.tensorrt.lower import lower
from edgeprune.targets.load import load_target

pytestmark = pytest.mark.system

VERSIONS = ("10.3", "10.16", "11.4")
CONTRACT, ROOT = Path(__file__).with_name("contract.py"), Path(__file__).parents[3]
SYMBOLS = {
    "libnvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getPluginRegistry",
        "getBuilderPluginRegistry",
    ),
    "libnvinfer_plugin": ("initLibNvInferPlugins",),
    "libnvonnxparser": (
        "createNvOnnxParser_INTERNAL",
        "createNvOnnxParserRefitter_INTERNAL",
        "getNvOnnxParserVersion",
    ),
}
"""What the bindings link against, by library."""


@pytest.fixture(scope="module", params=VERSIONS)
def bindings(request, tmp_path_factory):
    """Runs the contract program with the bindings of one version."""
    root = os.environ.get("EDGEPRUNE_TENSORRT_BINDINGS")
    if not root:
        pytest.skip("EDGEPRUNE_TENSORRT_BINDINGS is not set: see the head of this file")
    folder = Path(root) / request.param
    if not (folder / "tensorrt_bindings").is_dir():
        pytest.skip(f"{folder}: no bindings there: see the head of this file")
    if (compiler := shutil.which("gcc") or shutil.which("cc")) is None:
        pytest.skip("no C compiler for the symbols that the bindings want")
    stubs = tmp_path_factory.mktemp("stubs")
    for library, symbols in SYMBOLS.items():
        name = f"{library}.so.{request.param.partition('.')[0]}"
        source = stubs / f"{library}.c"
        source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(stubs / name), str(source)]
        subprocess.run(command, check=True)

    def run(*arguments, cache):
        environment = os.environ | {
            "LD_LIBRARY_PATH": str(stubs),
            "PYTHONPATH": f"{folder}:{ROOT}",
            "EDGEPRUNE_CACHE": str(cache),
        }
        command = [sys.executable, str(CONTRACT), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    run.version = request.param
    return run


@pytest.fixture
def files(signed_model, tmp_path):
    (tmp_path / "out").mkdir()
    return lower(signed_model, load_target("jetson"), "int8", tmp_path / "out").files


def test_building_opening_running_and_profiling_call_what_is_there(bindings, files, tmp_path):
    done = bindings(files["model"], files["build"], cache=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["version"].startswith(bindings.version)
    assert {
        "Builder.build_serialized_network",
        "IBuilderConfig.set_timing_cache",
        "IOptimizationProfile.set_shape",
        "OnnxParser.parse_from_file",
        "ParserError.code",
        "Runtime.deserialize_cuda_engine",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.profiler =",
        "EngineInspector.get_engine_information",
    } <= set(told["called"])
    assert not [name for name in told["called"] if "calib" in name.lower()]
    assert [name for name in told["called"] if "flag" in name.lower()] == ["IBuilderConfig.clear_flag"]  # of TF32


def test_kernels_for_sparse_weights_are_asked_for(bindings, sparse_model, tmp_path):
    (tmp_path / "out").mkdir()
    files = lower(sparse_model, load_target("jetson"), "int8", tmp_path / "out").files
    done = bindings(files["model"], files["build"], cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "IBuilderConfig.set_flag" in json.loads(done.stdout)["called"]


PROGRAM = """#!{python}
import sys
asked = dict(one.partition("=")[::2] for one in sys.argv[1:])
open(asked["--saveEngine"], "wb").write(b"plan")
print("&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] # trtexec")
"""


@pytest.mark.parametrize("off", [0, 100])
def test_an_engine_of_trtexec_is_opened_where_it_is_of_the_same_release(bindings, files, tmp_path, monkeypatch, off):
    """A program in its place: whether the real one takes the arguments, its flags tell."""
    numbers = {"10.3": 100300, "10.16": 101601, "11.4": 110400}
    program = tmp_path / "trtexec"
    program.write_text(PROGRAM.format(python=sys.executable, number=numbers[bindings.version] + off))
    program.chmod(0o755)
    monkeypatch.setenv("EDGEPRUNE_TENSORRT_BUILDER", "trtexec")
    monkeypatch.setenv("EDGEPRUNE_TRTEXEC", str(program))
    done = bindings(files["model"], files["build"], cache=tmp_path)
    if off:
        assert "MissingError" in done.stderr
        assert f"{program} is TensorRT" in done.stderr
    else:
        assert "Builder.build_serialized_network" not in json.loads(done.stdout)["called"]


@pytest.mark.parametrize(
    "snippet",
    [
        "config.bulider_optimization_level = 3",
        "config.create_optimisation_profile()",
        "builder.create_network('strong')",
        "builder.build_serialized_network(config)",
        "builder.create_optimization_profile().set_shape('x', (1, 3), (1, 3))",
        "config.profiling_verbosity = 'detailed'",
        "builder.num_DLA_cores = 2",
        "trt.LayerInformationFormat.YAML",
    ],
)
def test_a_call_that_is_not_there_is_found(bindings, tmp_path, snippet):
    done = bindings("", "", snippet, cache=tmp_path)
    assert done.returncode != 0, f"{snippet} passed"


def test_what_release_11_removed_is_found_there_alone(bindings, tmp_path):
    done = bindings("", "", "config.set_flag(trt.BuilderFlag.INT8)", cache=tmp_path)
    assert (done.returncode == 0) is bindings.version.startswith("10.")
