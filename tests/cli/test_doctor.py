from __future__ import annotations

import json

from click.testing import CliRunner

from edgeprune.cli.main import main
from edgeprune.targets.load import target_names


def test_every_target_is_looked_at():
    shown = CliRunner().invoke(main, ["doctor"]).stdout
    for name in target_names():
        assert name in shown


def test_no_speed_is_claimed_where_the_device_of_tensorrt_is_not():
    shown = " ".join(CliRunner().invoke(main, ["doctor"]).stdout.split())
    assert "graph and calls, not speed; no latency of it is told unless a device has measured it" in shown


def test_as_json_it_is_the_whole_diagnosis():
    found = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    assert {target["name"] for target in found["targets"]} == set(target_names())
    assert found["versions"]["torch"]
