from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgeprune.bundle import open_bundle
from edgeprune.cli.main import main


@pytest.mark.parametrize("name", ["cpu", "jetson"])
def test_a_bundle_is_shown_within_100_columns(bundles, name):
    shown = CliRunner().invoke(main, ["show", str(bundles[name])]).stdout
    assert max(map(len, shown.splitlines())) <= 100
    for variant in open_bundle(bundles[name]).core.variants:
        assert variant.name in shown


def test_as_json_it_is_all_that_the_core_says(bundles):
    found = json.loads(CliRunner().invoke(main, ["show", str(bundles["cpu"]), "--json"]).stdout)
    bundle = open_bundle(bundles["cpu"])
    assert found["bundle_sha256"] == bundle.sha256
    assert found["command"] == bundle.core.command
    assert found["sha256"] == bundle.core.sha256
    assert [one["name"] for one in found["variants"]] == ["baseline", "ort-fp32", "ort-int8"]


def test_where_there_is_no_bundle_it_says_how_to_make_one(tmp_path):
    done = CliRunner().invoke(main, ["show", str(tmp_path)])
    assert done.exit_code == 2
    assert "no bundle here" in done.stderr
