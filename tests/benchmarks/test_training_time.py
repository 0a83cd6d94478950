from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

RECIPE = """
model: cnn
train: {batch: 32}
prune: {pruner: PRUNER, keep: 0.2, align: 4}
"""


def run(program, tmp_path, monkeypatch, pruner):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine.yaml").write_text(RECIPE.replace("PRUNER", pruner))
    arguments = [str(tmp_path / "mine.yaml"), "--epochs", "3", "--seeds", "0,1"]
    return CliRunner().invoke(program("training_time").main, arguments)


def test_both_trainings_are_timed_epoch_by_epoch_and_their_operations_counted(program, tmp_path, monkeypatch):
    result = run(program, tmp_path, monkeypatch, "loss")
    assert result.exit_code == 0, result.output
    *seeds, told = result.stdout.splitlines()
    assert [json.loads(one)["seed"] for one in seeds] == [0, 1]
    for one in map(json.loads, seeds):
        assert {name: len(took) for name, took in one["seconds"].items()} == {"dense": 3, "pruned": 3}
        assert one["time"] == pytest.approx(sum(one["seconds"]["pruned"]) / sum(one["seconds"]["dense"]))
        assert one["kept"] <= 0.2
        assert one["kept"] < one["flops"] < 1
    assert re.fullmatch(r"of the time of the dense training: \d\.\d{3} \[-?\d\.\d{3}, \d\.\d{3}\]", told)


def test_a_recipe_that_prunes_afterwards_is_refused(program, tmp_path, monkeypatch):
    assert "prunes by magnitude, not by loss or dynamic" in run(program, tmp_path, monkeypatch, "magnitude").output
