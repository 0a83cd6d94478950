from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

RECIPE = """
model: cnn
train: {batch: 32}
prune: {pruner: rl, keep: 0.5, align: 8, rl: {episodes: 2, episode_epochs: 2, episode_samples: 64}}
"""


def test_what_was_learned_is_played_beside_a_random_policy_and_shuffled_observations(program, tmp_path, monkeypatch):
    pytest.importorskip("stable_baselines3")
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "agent.yaml").write_text(RECIPE)
    arguments = [str(tmp_path / "agent.yaml"), "--tested", "3", "--out", str(tmp_path)]
    result = CliRunner().invoke(program("agent").main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    curves = json.loads((tmp_path / "curves.json").read_text())
    assert {name: len(curve["returns"]) for name, curve in curves.items()} == {
        "agent, learning": 2,
        "agent": 3,
        "shuffled, learning": 2,
        "shuffled": 3,
        "random": 3,
        "always keep": 3,
        "always neurons": 3,
        "always connections": 3,
    }
    assert "random: return" in result.stdout
