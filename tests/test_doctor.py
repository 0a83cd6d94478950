from __future__ import annotations

from pathlib import Path

import pytest
import tomllib

from edgeprune.doctor import EXTRAS, check, examine, installed
from edgeprune.errors import MissingError, UnknownNameError
from edgeprune.targets.load import load_target

ROOT = Path(__file__).parent.parent
EVERYTHING = {package for packages in EXTRAS.values() for package in packages}


class Counter:
    sensor = "RAPL package-0"
    sampling_hz = None

    def energy_j(self) -> float:
        return 0.0


def look(here=EVERYTHING, environ=None, python=(3, 11, 7), meter=lambda names: Counter(), gpu=lambda: ""):
    return examine(
        version=lambda package: "1.0" if package in here else None,
        environ=environ or {},
        python=python,
        meter=meter,
        gpu=gpu,
    )


def report(diagnosis, name):
    return next(target for target in diagnosis.targets if target.name == name)


def test_where_everything_is_installed_this_machine_can_do_everything():
    cpu = report(look(), "cpu")
    assert cpu.compile.able
    assert all(ability.able for ability in cpu.run.values())
    assert cpu.measure.able
    assert cpu.energy == "RAPL package-0"


def test_a_device_that_is_not_here_can_be_compiled_for_and_no_more():
    jetson = report(look(EVERYTHING - {"tensorrt"}), "jetson-orin-nano")
    assert jetson.compile.able
    assert jetson.run["tensorrt"].reason == "runs on its device only"
    assert "apt install python3-libnvinfer" in jetson.run["tensorrt"].remedy
    assert not jetson.measure.able
    assert jetson.energy == "read on the device"


def test_what_is_missing_comes_with_the_command_that_gets_it():
    cpu = report(look(EVERYTHING - {"torch", "openvino"}), "cpu")
    assert cpu.compile.reason == "not installed: torch"
    assert cpu.compile.remedy == "pip install 'edgeprune[compile]'"
    assert cpu.run["openvino"].remedy == "pip install 'edgeprune[openvino]'"
    assert cpu.measure.able


def test_tensorrt_without_a_gpu_does_not_run():
    gpu = report(look(gpu=lambda: "no GPU is found"), "gpu")
    assert gpu.run["tensorrt"].reason == "no GPU is found"
    assert report(look(), "gpu").run["tensorrt"].able


def test_it_says_what_is_proven_of_tensorrt_without_its_device():
    for here in (EVERYTHING, EVERYTHING - {"tensorrt-rtx-cu13-libs"}):
        assert (
            "graph and calls, not speed; no latency of it is told unless a device has measured it" in look(here).proof
        )
    assert look().proof.endswith("is here")
    assert (
        "pip install 'edgeprune[tensorrt-rtx]' (proprietary licence)"
        in look(EVERYTHING - {"tensorrt-rtx-cu13-libs"}).proof
    )


def test_without_any_runtime_nothing_is_measured():
    cpu = report(look({"torch"}), "cpu")
    assert cpu.measure.reason == "no runtime of it is installed"
    assert cpu.measure.remedy == "pip install 'edgeprune[ort]'"


def test_an_old_python_runs_and_measures_but_does_not_compile():
    cpu = report(look(python=(3, 10, 12)), "cpu")
    assert cpu.compile.reason == "Python 3.10"
    assert cpu.measure.able


def test_without_a_sensor_the_reason_is_told():
    def none(names):
        raise MissingError("RAPL: no processor package")

    assert report(look(meter=none), "cpu").energy == "unavailable: RAPL: no processor package"


def test_packages_that_overwrite_each_other_are_told():
    assert look().warnings == ()
    (warning,) = look(EVERYTHING | {"onnxruntime-gpu"}).warnings
    assert "onnxruntime and onnxruntime-gpu overwrite each other" in warning
    assert "pip uninstall onnxruntime onnxruntime-gpu" in warning


def test_every_lack_comes_with_what_to_do_about_it():
    for target in look({"torch"}).targets:
        for ability in target.abilities:
            assert ability.able or ability.remedy


def test_what_is_measured_elsewhere_says_how():
    assert "edgeprune lab collect BUNDLE" in report(look(), "rpi5").measure.remedy


def test_the_folder_of_data_sets_is_looked_into(tmp_path):
    assert "is not set" in look().data
    (tmp_path / "mnist").mkdir()
    assert look(environ={"EDGEPRUNE_DATA": str(tmp_path)}).data == f"EDGEPRUNE_DATA={tmp_path}: mnist"
    gone = tmp_path / "gone"
    assert look(environ={"EDGEPRUNE_DATA": str(gone)}).data == f"EDGEPRUNE_DATA={gone} is no folder"


def test_versions_are_those_of_this_environment():
    assert installed("pytest") == pytest.__version__
    assert installed("no-such-package") is None


def test_the_extras_are_those_of_the_package():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        names = [line.split(";")[0].split(">")[0].strip() for line in declared[extra] if "edgeprune[" not in line]
        assert sorted(names) == sorted(packages)


def test_a_target_of_anyones_is_looked_at_like_a_shipped_one():
    rpi5 = load_target("rpi5")
    assert check(rpi5).measure.reason == "another machine"
    other = rpi5.model_copy(update={"backends": {"orrt": rpi5.backends["ort"]}})
    with pytest.raises(UnknownNameError, match="did you mean 'ort'"):
        check(other)
