from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgeprune.cli.main import main
from edgeprune.shipped import find
from edgeprune.targets.load import load_target, target_names


def test_the_list_names_every_target_with_its_runtimes():
    shown = CliRunner().invoke(main, ["targets", "list"]).stdout
    for name in target_names():
        assert name in shown
    assert "tensorrt fp32/fp16/int8" in shown


def test_the_list_as_json_is_the_targets():
    found = json.loads(CliRunner().invoke(main, ["targets", "list", "--json"]).stdout)
    assert {target["name"] for target in found} == set(target_names())


@pytest.mark.parametrize("name", ["jetson", "cpu"])
def test_a_target_is_shown_whole_with_its_sources(name):
    found = json.loads(CliRunner().invoke(main, ["targets", "show", name, "--json"]).stdout)
    assert found == load_target(name).model_dump(mode="json", exclude_none=True)
    assert all(
        source.split()[0] in CliRunner().invoke(main, ["targets", "show", name]).stdout for source in found["sources"]
    )


def test_what_is_shown_is_a_target_file_again(tmp_path):
    path = tmp_path / "copy.yaml"
    path.write_text(CliRunner().invoke(main, ["targets", "show", "rpi5"]).stdout)
    assert load_target(str(path)) == load_target("rpi5")


def test_a_file_is_checked_and_what_it_says_is_shown():
    done = CliRunner().invoke(main, ["targets", "check", str(find("targets", "jetson-thor"))])
    assert done.exit_code == 0
    assert "run with tensorrt here: no: runs on its device only" in done.stdout
    assert "jetpack: '7.0'" in done.stdout


def test_a_file_with_an_unknown_runtime_does_not_pass(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(find("targets", "rpi5").read_text().replace("ort:", "orrt:"))
    done = CliRunner().invoke(main, ["targets", "check", str(path)])
    assert done.exit_code == 2
    assert "did you mean 'ort'?" in done.stderr


def test_this_machine_becomes_a_file_that_passes(tmp_path):
    path = tmp_path / "mine.yaml"
    assert CliRunner().invoke(main, ["targets", "detect", "-o", str(path)]).exit_code == 0
    found = json.loads(CliRunner().invoke(main, ["targets", "check", str(path), "--json"]).stdout)
    assert found["target"]["name"] == "mine"
    assert found["here"]["measure"]["reason"] == ""


def test_without_a_file_the_description_is_printed(tmp_path):
    path = tmp_path / "printed.yaml"
    path.write_text(CliRunner().invoke(main, ["targets", "detect"]).stdout)
    assert load_target(str(path)).local
