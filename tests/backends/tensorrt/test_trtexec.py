from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune.backends.tensorrt import trtexec
from edgeprune.backends.tensorrt.build_file import read_build
from edgeprune.backends.tensorrt.lower import lower
from edgeprune.errors import CorruptError, MissingError, ModelError
from edgeprune.targets.load import load_target

FLAGS = json.loads(Path(__file__).with_name("trtexec_flags.json").read_text())
RELEASES = sorted(FLAGS["besides"])


def known(release):
    return {f"--{name}" for line in (*FLAGS["every"], *FLAGS["besides"][release]) for name in line.split()}


def names(arguments):
    return {argument.partition("=")[0] for argument in arguments}


@pytest.fixture
def build(signed_model, tmp_path):
    (tmp_path / "out").mkdir()
    return read_build(lower(signed_model, load_target("jetson"), "int8", tmp_path / "out").files["build"])


@pytest.fixture
def building(build):
    model, engine, timing = Path("model.onnx"), Path("model.engine"), Path("timing.cache")
    return trtexec.build_arguments(model, engine, build, build.for_batch(2), timing_cache=timing)


TIMING = trtexec.timing_arguments(Path("e"), {"x": (1, 3)}, seconds=3, times=Path("t"), profile=Path("p"))


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_has_the_flags_of_a_build(building, release):
    assert names(building) <= known(release)


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_has_the_flags_of_a_timing(release):
    assert names(TIMING) <= known(release)


def test_the_fixtures_tell_the_releases_apart():
    assert {"--fp16", "--best", "--calib", "--int4"} <= known("10.3") - known("11.1")
    assert {"--noSpinWait", "--noCudaGraph", "--includeDataTransfers"} <= known("11.0") - known("10.16")


def test_a_build_is_strongly_typed_and_names_no_precision_and_no_calibration(building):
    assert {"--stronglyTyped", "--noTF32"} <= set(building)
    weak = {"--fp16", "--int8", "--best", "--int4", "--fp8", "--bf16", "--calib", "--precisionConstraints"}
    assert not names(building) & weak


def test_kernels_for_sparse_weights_are_asked_for_where_there_are_such(build, building):
    assert not [argument for argument in building if "sparsity" in argument]
    sparse = replace(build, builder=dict(build.builder) | {"sparse_weights": True})
    asked = trtexec.build_arguments(Path("m"), Path("e"), sparse, {}, timing_cache=Path("t"))
    assert "--sparsity=enable" in asked
    assert all(names(asked) <= known(release) for release in RELEASES)


def test_sizes_are_said_as_trtexec_reads_them(building):
    assert "--minShapes='x':1x1x8x8" in building
    assert "--optShapes='x':2x1x8x8" in building
    assert "--maxShapes='x':8x1x8x8" in building


def test_a_network_of_fixed_sizes_is_given_none(build):
    arguments = trtexec.build_arguments(Path("m"), Path("e"), build, {}, timing_cache=Path("t"))
    assert not [argument for argument in arguments if "Shapes" in argument]


def test_what_release_11_turned_around_is_said_in_every_timing():
    assert {"--noDataTransfers", "--useSpinWait", "--useCudaGraph", "--separateProfileRun"} <= set(TIMING)


def program(folder, text="#!/bin/sh\nexit 0\n"):
    path = folder / "trtexec"
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_it_is_found_on_the_path_or_where_jetpack_puts_it(tmp_path):
    jetpack = program(tmp_path)
    nowhere = {"PATH": str(tmp_path / "none")}
    assert trtexec.find_trtexec(nowhere, jetpack) == jetpack
    assert trtexec.find_trtexec({"PATH": str(tmp_path)}, tmp_path / "none") == jetpack
    assert trtexec.find_trtexec({"EDGEPRUNE_TRTEXEC": str(jetpack)}, tmp_path / "none") == jetpack
    with pytest.raises(MissingError, match=r"neither on the path nor .*none: apt install tensorrt"):
        trtexec.find_trtexec(nowhere, tmp_path / "none")
    with pytest.raises(MissingError, match="is no program"):
        trtexec.find_trtexec({"EDGEPRUNE_TRTEXEC": str(tmp_path / "none")}, jetpack)


def test_its_version_is_read_from_what_it_says():
    said = "&&&& RUNNING TensorRT.trtexec [TensorRT v{}] [b30] # trtexec --onnx=m.onnx\n"
    assert trtexec.version_of(said.format(100300)) == "10.3.0"
    assert trtexec.version_of(said.format(101602)) == "10.16.2"
    assert trtexec.version_of(said.format(110400)) == "11.4.0"
    with pytest.raises(CorruptError):
        trtexec.version_of("hello")


def test_its_last_error_is_told_in_one_line(tmp_path):
    failing = program(
        tmp_path,
        "#!/bin/sh\n"
        'echo "[11/25/2026-03:00:00] [E] [TRT] ModelImporter.cpp:948: While parsing node number 3"\n'
        'echo "[11/25/2026-03:00:00] [E] Failed to parse onnx file"\n'
        "exit 1\n",
    )
    with pytest.raises(ModelError, match=r"^m\.onnx: trtexec refuses it: Failed to parse onnx file$"):
        trtexec.run_trtexec(["--onnx=m.onnx"], Path("m.onnx"), failing)
    silent = program(tmp_path, "#!/bin/sh\nexit 3\n")
    with pytest.raises(ModelError, match="exit code 3"):
        trtexec.run_trtexec([], Path("m.onnx"), silent)
    with pytest.raises(MissingError, match="cannot be run"):
        trtexec.run_trtexec([], Path("m.onnx"), tmp_path / "none")


def test_times_are_read_as_it_exports_them(tmp_path):
    """`exportJSONTrace` of sampleReporting.cpp, the same in 10.3 and 11.1."""
    path = tmp_path / "times.json"
    path.write_text(
        '[\n  { "startEnqMs" : 0.1  , "endEnqMs" : 0.2, "startH2dMs" : 0.2, "endH2dMs" : 0.2, "startComputeMs" : 0.3,'
        ' "endComputeMs" : 1.55, "startD2hMs" : 1.6, "endD2hMs" : 1.6, "h2dMs" : 0, "computeMs" : 1.25, "d2hMs" : 0,'
        ' "latencyMs" : 1.25 }\n, { "startEnqMs" : 2, "endEnqMs" : 2.1, "startH2dMs" : 2.1, "endH2dMs" : 2.1,'
        ' "startComputeMs" : 2.2, "endComputeMs" : 3.7, "startD2hMs" : 3.7, "endD2hMs" : 3.7, "h2dMs" : 0,'
        ' "computeMs" : 1.5, "d2hMs" : 0, "latencyMs" : 1.5 }\n]\n'
    )
    assert trtexec.read_times(path) == [1.25, 1.5]


def test_a_profile_is_read_as_it_exports_it(tmp_path):
    """`Profiler::exportJSONProfile` of sampleReporting.cpp, the same in 10.3 and 11.1."""
    path = tmp_path / "profile.json"
    path.write_text(
        '[\n  { "count" : 20 }\n, { "name" : "conv1", "timeMs" : 1.2, "averageMs" : 0.06, "medianMs" : 0.05,'
        ' "percentage" : 75 }\n, { "name" : "fc", "timeMs" : 0.4, "averageMs" : 0.02, "medianMs" : 0.02,'
        ' "percentage" : 25 }\n]\n'
    )
    assert trtexec.read_profile(path) == {"conv1": pytest.approx(60), "fc": pytest.approx(20)}


@pytest.mark.parametrize("content", ["", "{}", "[", "[]", "[1]"])
def test_an_export_that_is_none_is_corrupt(tmp_path, content):
    path = tmp_path / "times.json"
    path.write_text(content)
    with pytest.raises(CorruptError, match=r"times\.json: not what trtexec exports"):
        trtexec.read_times(path)
