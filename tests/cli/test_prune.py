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


def test_a_latency_that_nothing_foretells_is_refused_with_an_option_that_there_is(tmp_path):
    (tmp_path / "fast.yaml").write_text("prune: {pruner: magnitude, cost: latency}")
    asked = ["prune", "cnn", "--recipe", str(tmp_path / "fast.yaml"), "--out", str(tmp_path / "cut")]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 2
    assert "prune.cost: latency: give --latency-table FILE" in done.stderr
    done = CliRunner().invoke(main, [*asked, "--latency-table", "none.csv"])
    assert done.exit_code == 2
    assert "none.csv: no such file" in done.stderr


NETWORK = """
import torch
from torch import nn


class Tied(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3, padding=1)
        self.third = nn.Conv2d(16, 16, 3, padding=1)
        self.third.weight = self.second.weight
        self.fourth, self.last = nn.Conv2d(16, 64, 3), nn.Linear(64, classes)

    def forward(self, x):
        for layer in (self.first, self.second, self.third, self.fourth):
            x = torch.relu(layer(x))
        return self.last(x.mean((2, 3)))


def tied(classes):
    return Tied(classes)
"""


def test_it_goes_on_around_shared_weights_and_says_what_is_left_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine.py").write_text(NETWORK)
    asked = ["prune", f"{tmp_path / 'mine.py'}:tied", "--epochs", "1", "--out", str(tmp_path / "cut")]
    told = "prune: left whole: first, second, third: second and third share their weights"
    done = CliRunner().invoke(main, [*asked, "--keep", "0.8"])
    assert done.exit_code == 0, done.output
    assert done.stderr.count(told) == 1
    found = json.loads((tmp_path / "cut" / "pruning.json").read_bytes())
    widths = {one["name"]: one["after"] for one in found["layers"]}
    before, after = (found[name] for name in ("macs_before", "macs_after"))
    assert f"kept: {after:,} of {before:,} multiply-accumulates, 1 of 5 layers are narrower\n" in done.stdout
    assert widths["second"] == 16
    assert widths["fourth"] < 64
    done = CliRunner().invoke(main, [*asked, "--keep", "0.1", "--force"])
    assert done.exit_code == 2
    assert done.stderr.count(told) == 1  # that is why
    assert "keep 0.1 cannot be reached" in done.stderr
