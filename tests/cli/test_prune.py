from __future__ import annotations

import json

from click.testing import CliRunner

from edgeprune.cli.main import main


def test_a_network_is_pruned_as_the_options_say(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    options = "--pruner taylor --sparsity 0.6 --schedule cubic --distill 0.5 --epochs 2"
    done = CliRunner().invoke(main, ["prune", "cnn", *options.split(), "--out", str(tmp_path / "cut"), "--json"])
    assert done.exit_code == 0, done.output
    pruning = json.loads(done.stdout)["pruning"]
    assert pruning["method"] == "taylor"
    assert pruning["cost_after"] <= 0.4 * pruning["cost_before"]
    assert len(pruning["events"]) > 3
    assert json.loads((tmp_path / "cut" / "architecture.json").read_bytes())["surgery"]["cuts"]


def test_what_cannot_be_reached_says_what_can(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    options = "--pruner uniform --keep 0.5 --remove blocks --epochs 1"
    done = CliRunner().invoke(main, ["prune", "cnn", *options.split(), "--out", str(tmp_path / "cut")])
    assert done.exit_code == 2
    assert "keep 0.5 cannot be reached by removing whole blocks: 1 of the multiply-accumulates can" in done.stderr
    assert not (tmp_path / "cut").exists()
