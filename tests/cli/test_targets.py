from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgeprune.cli.main import main
from edgeprune.targets.load import load_target, target_names


def test_the_list_names_every_target_with_its_runtimes():
    shown = CliRunner().invoke(main, ["targets", "list"]).stdout
    for name in target_names():
        assert name in shown
    assert "tensorrt fp32/int8" in shown


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
