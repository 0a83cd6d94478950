from __future__ import annotations

import sys

import pytest

from edgeprune.lab.check import check
from edgeprune.lab.connect import transport
from edgeprune.lab.lease import Lease
from tests.lab.conftest import simulated


@pytest.fixture
def checked(lab_of, tmp_path):
    def checked(**device):
        instance = lab_of({"name": "one", "transport": "local", **device}).instances[0]
        return check(instance, tmp_path / "devices")

    return checked


@pytest.fixture
def python(tmp_path):
    """An interpreter, as a script."""

    def python(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return python


def test_a_device_that_is_ready_says_what_it_is_and_keeps_nothing(checked, tmp_path):
    found = checked()
    assert (found.state, found.faults) == ("ready", ())
    assert found.versions is not None
    assert {"python", "numpy", "onnxruntime"} <= found.versions.keys()
    assert found.free_disk_bytes > 0
    assert found.free_memory_bytes > 0
    assert found.power_mode
    assert found.meter.startswith(("none: RAPL", "RAPL"))
    assert [path.name for path in (tmp_path / "devices" / "one").iterdir()] == ["lease"]


@pytest.mark.parametrize("other", ["onnxruntime-gpu", "onnxruntime-openvino"])
def test_packages_that_overwrite_each_other_there_are_told(checked, python, tmp_path, other):
    folder = tmp_path / "packages" / f"{other.replace('-', '_')}-1.23.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {other}\nVersion: 1.23.0\n")
    script = f'PYTHONPATH="$PYTHONPATH:{folder.parent}" exec {sys.executable} "$@"'
    found = checked(python=python(script))
    assert any(f"onnxruntime and {other} overwrite each other" in warning for warning in found.warnings)


def test_a_device_that_somebody_measures_on_is_left_in_peace(lab_of, tmp_path):
    instance = lab_of({"name": "one", "transport": "local"}).instances[0]
    way = transport(instance.device, tmp_path / "devices")
    with Lease(way, "one"):
        found = check(instance, tmp_path / "devices")
    way.close()
    assert found.state == "in use"
    assert "one: in use by" in found.faults[0]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "/nowhere/python: cannot be run"),
        (f'exec {sys.executable} -I -S "$@"', "no NumPy there: run `{python} -m pip install numpy` on it"),
        (
            'case "$*" in *json.dumps*) echo \'{"python": [3, 8, 10], "found": {}}\';;'
            f' *) exec {sys.executable} "$@";; esac',
            "is Python 3.8.10, 3.10 is the oldest",
        ),
        (
            'case "$*" in *json.dumps*) echo \'{"python": [3, 8, 10], "found": {}, "jetson": "# R35 (release)"}\';;'
            f' *) exec {sys.executable} "$@";; esac',
            "it runs Jetson Linux 35. JetPack 5 and older are out of scope",
        ),
        (
            f'case "$*" in *json.dumps*) echo hello;; *) exec {sys.executable} "$@";; esac',
            "its Python said 'hello', which is no answer",
        ),
    ],
)
def test_what_is_wrong_with_its_python_is_told_with_what_to_do(checked, python, script, said):
    program = python(script) if script else "/nowhere/python"
    found = checked(python=program)
    assert found.state == "faulty"
    assert said.format(python=program) in found.faults[0]


def test_a_device_of_another_type_is_told(checked):
    found = checked(target="rpi5")
    assert any("but rpi5 is aarch64: name the right `target`" in fault for fault in found.faults)


def test_a_runtime_that_is_not_there_is_told(checked):
    found = checked(target="jetson")
    assert any("(tensorrt) is installed: comes with JetPack" in fault for fault in found.faults)


def test_a_simulated_device_is_ready_and_says_so(lab_of, tmp_path):
    found = check(lab_of(simulated("one")).instances[0], tmp_path)
    assert (found.state, found.machine, found.emulated) == ("ready", "simulated", True)
