from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

from edgeprune.errors import CorruptError, InputError, ModelError
from edgeprune.prune.agent.observation import FEATURES
from edgeprune.prune.agent.policy import LearnedPolicy, RandomPolicy, load, network, save
from edgeprune.prune.agent.walk import Action

ARCHITECTURE = {"conv1": (32, 3, 3, 3), "conv2": (64, 32, 3, 3), "dense1": (128, 4096)}


@pytest.fixture
def policy():
    torch.manual_seed(0)
    weights = {name: torch.randn_like(one) * (one.ndim > 1) for name, one in network().state_dict().items()}
    return LearnedPolicy(weights, ARCHITECTURE, {"episodes": 3})


def observations(count=50):
    return np.random.default_rng(0).standard_normal((count, len(FEATURES)), np.float32)


def test_it_is_read_again_as_it_was_written(policy, tmp_path):
    save(tmp_path / "policy", policy)
    assert {path.name for path in (tmp_path / "policy").iterdir()} == {"policy.safetensors", "policy.json"}
    again = load(tmp_path / "policy")
    again.check(ARCHITECTURE)
    actions = [policy.action(seen, 1, 0) for seen in observations()]
    assert [again.action(seen, 9, 5) for seen in observations()] == actions
    assert len(set(actions)) > 1
    assert json.loads((tmp_path / "policy" / "policy.json").read_text())["learned"] == {"episodes": 3}


@pytest.mark.parametrize(
    ("architecture", "told"),
    [
        (ARCHITECTURE | {"conv2": (32, 32, 3, 3)}, "weights of conv2 were 64x32x3x3, and are 32x32x3x3"),
        (ARCHITECTURE | {"conv1": (32, 1, 3, 3)}, "weights of conv1 were 32x3x3x3, and are 32x1x3x3"),
        (ARCHITECTURE | {"dense2": (10, 128)}, "layer dense2 is in one of them only"),
    ],
)
def test_one_for_another_architecture_is_refused(policy, architecture, told):
    with pytest.raises(ModelError, match=rf"was learned for another architecture \({told}\): learn one"):
        policy.check(architecture)


def test_what_is_missing_damaged_or_of_another_kind_is_told(policy, tmp_path):
    with pytest.raises(InputError, match=r"policy\.safetensors: missing"):
        load(tmp_path)
    save(tmp_path, policy)
    text = (tmp_path / "policy.json").read_text()
    (tmp_path / "policy.json").write_text(text.replace("position", "mood"))
    with pytest.raises(CorruptError, match="observes other things"):
        load(tmp_path)
    (tmp_path / "policy.json").write_text(json.dumps(json.loads(text) | {"architecture": [32, 64]}))
    with pytest.raises(CorruptError, match="the policy is damaged"):
        load(tmp_path)
    (tmp_path / "policy.json").write_text(text)
    (tmp_path / "policy.safetensors").write_bytes((tmp_path / "policy.safetensors").read_bytes()[:100])
    with pytest.raises(CorruptError, match="the policy is damaged"):
        load(tmp_path)


def test_a_random_one_is_decided_by_its_seed_the_step_and_the_layer_alone():
    drawn = [RandomPolicy(1).action(seen, step, 0) for step, seen in enumerate(observations(300))]
    assert drawn == [RandomPolicy(1).action(np.zeros(len(FEATURES), np.float32), step, 0) for step in range(300)]
    counts = Counter(drawn)
    assert set(counts) == set(Action)
    assert min(counts.values()) > 60
