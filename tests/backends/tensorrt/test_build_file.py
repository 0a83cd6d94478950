from __future__ import annotations

import json

import pytest

from edgeprune.backends.tensorrt.build_file import Shapes, read_build
from edgeprune.backends.tensorrt.lower import lower
from edgeprune.errors import ConfigError, CorruptError, MissingError
from edgeprune.targets.load import load_target


@pytest.fixture
def build(signed_model, tmp_path):
    (tmp_path / "out").mkdir()
    return lower(signed_model, load_target("jetson"), "int8", tmp_path / "out").files["build"]


def test_the_device_reads_what_the_host_wrote(build):
    found = read_build(build)
    assert (found.since, found.below, found.unproven) == ("10.0", "12.0", "")
    assert found.shapes == {"x": Shapes((1, 1, 8, 8), (1, 1, 8, 8), (8, 1, 8, 8))}


@pytest.mark.parametrize("version", ["10.0.1", "10.3.0.26", "10.16.2", "11.4.0.106"])
def test_a_version_in_the_range_is_taken(build, version):
    read_build(build).refuse_other(version)


@pytest.mark.parametrize("version", ["8.5.2", "8.6.2", "9.3.0", "12.0.0"])
def test_a_version_outside_of_the_range_is_refused_with_both_named(build, version):
    with pytest.raises(MissingError, match=rf"TensorRT {version} is here, and the file is for 10\.0 up to below 12\.0"):
        read_build(build).refuse_other(version)


def test_an_engine_is_tuned_for_the_batch_that_it_is_opened_with(build):
    assert read_build(build).for_batch(4) == {"x": Shapes((1, 1, 8, 8), (4, 1, 8, 8), (8, 1, 8, 8))}
    with pytest.raises(ConfigError, match="batch 9 is asked for, and input 'x' takes 1 to 8"):
        read_build(build).for_batch(9)


def test_an_input_whose_sizes_are_fixed_is_in_no_profile(write_onnx, tmp_path):
    path = write_onnx("g (float[4, 2] x) => (float[4, 2] y) { [relu] y = Relu(x) }")
    (tmp_path / "out").mkdir()
    build = lower(path, load_target("jetson"), "fp32", tmp_path / "out").files["build"]
    assert read_build(build).for_batch(1) == {}


def test_a_file_edited_by_hand_is_refused_in_one_line(build):
    right = json.loads(build.read_bytes())
    (profile,) = right["profiles"]
    bad = [
        {"profiles": []},
        {"profiles": [{"x": profile["x"] | {"max": [-1, 1, 8, 8]}}]},
        {"profiles": [{"x": {"min": [1]}}]},
        {"tensorrt": {"from": "ten"}},
        {"schema": 1},
        {"builder": None},
        {"builder": right["builder"] | {"profiling_verbosity": 3}},
        {"builder": {"profiling_verbosity": "detailed"}},
        {"builder": right["builder"] | {"sparse_weights": "yes"}},
        {"builder": {"profiling_verbosity": "detailed", "tf32": False}},
    ]
    for change in bad:
        build.write_text(json.dumps(right | change))
        with pytest.raises(CorruptError, match=r"build\.json: .*compile again") as raised:
            read_build(build)
        assert "\n" not in str(raised.value)
    for content in (b"", b"[]", b"{", b"\xff"):
        build.write_bytes(content)
        with pytest.raises(CorruptError, match=r"build\.json"):
            read_build(build)
    build.unlink()
    with pytest.raises(CorruptError, match=r"build\.json"):
        read_build(build)
