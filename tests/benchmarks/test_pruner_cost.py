from __future__ import annotations

import json
import sys

import pytest


@pytest.mark.parametrize("pruner", ["taylor", "loss", "dynamic", "rl"])
def test_all_that_a_pruner_does_is_held_against_the_training_around_it(program, pruner, monkeypatch, capsys):
    asked = ["pruner_cost", "--pruner", pruner, "--model", "cnn", "--batch", "16", "--steps", "4", "--removals", "2"]
    monkeypatch.setattr(sys, "argv", asked)
    program("pruner_cost").main()
    told = json.loads(capsys.readouterr().out)
    seconds = told["seconds"]
    own = sum(seconds[name] for name in ("forward", "before", "after", "step"))
    assert told["share"] == pytest.approx(own / seconds["training"])
    assert min(seconds["before"], seconds["step"], seconds["training"]) > 0
    assert told["kept"] < 1
