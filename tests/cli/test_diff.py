from __future__ import annotations

import json

from click.testing import CliRunner

from edgeprune.cli.main import main


def diff(*arguments: object) -> str:
    done = CliRunner().invoke(main, ["diff", *map(str, arguments)])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_what_differs_is_shown_within_100_columns(bundles):
    shown = diff(bundles["cpu"], bundles["narrow"])
    assert "prune.keep" in shown
    assert max(map(len, shown.splitlines()[2:])) <= 100


def test_json_holds_every_change(bundles):
    found = json.loads(diff(bundles["cpu"], bundles["narrow"], "--json"))
    assert not found["same"]
    assert {"part": "recipe", "name": "prune.keep", "a": 0.5, "b": 0.3, "note": ""} in found["changes"]


def test_a_bundle_does_not_differ_from_itself(bundles):
    found = json.loads(diff(bundles["cpu"], bundles["cpu"], "--json"))
    assert found == {"same": True, "changes": [], "not_compared": []}
