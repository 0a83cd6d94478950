from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from edgeprune.errors import ModelError
from edgeprune.prune.agent.agent_pruner import AgentPruner
from edgeprune.prune.agent.policy import LearnedPolicy, RandomPolicy, network
from edgeprune.prune.surgery import replay

STEPS_PER_EPOCH = 3

STEPS = 4 * STEPS_PER_EPOCH


def pruning(begun, seed=3):
    model, optimizer, walk = begun(k=0.25)
    return model, optimizer, AgentPruner(walk, RandomPolicy(seed), samples=16)


def test_it_prunes_at_decision_points_as_its_policy_says_and_tells_what_went(short, begun):
    model, optimizer, pruner = pruning(begun)
    short.train(model, optimizer, STEPS, pruner.step)
    report = pruner.report
    assert [event.step for event in report.events] == [3, 6]
    assert report.method == "rl"
    assert any(event.layers for event in report.events)
    assert any(event.dropped for event in report.events)
    for layer in report.layers:
        assert layer.before - layer.after == sum(event.layers.get(layer.name, 0) for event in report.events)
        assert bool(layer.reason) == (layer.before == layer.after)
    for one in report.connections:
        assert one.after == int((model.get_parameter(one.name) != 0).sum())
    kept = [1.0, *(event.kept for event in report.events)]
    weights = [3, 3, 6]
    share = sum(a * b for a, b in zip(kept, weights, strict=True)) / STEPS
    assert report.training_flops / report.training_flops_dense == pytest.approx(share)
    assert json.loads(json.dumps(asdict(report)))["macs_after"] < report.macs_before


def test_the_log_cuts_another_dense_network_in_the_same_way(short, begun):
    model, optimizer, pruner = pruning(begun)
    short.train(model, optimizer, STEPS, pruner.step)
    again = short.made()
    replay(again, pruner.log)
    again.load_state_dict(model.state_dict())
    x, _ = short.batch(0)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("stop", [2, 3, 5, 7])
def test_a_run_that_goes_on_from_its_state_ends_as_an_unbroken_one(short, begun, stop, tmp_path):
    model, optimizer, pruner = pruning(begun)
    short.train(model, optimizer, STEPS, pruner.step)
    first, its, steps = pruning(begun)
    short.train(first, its, stop, steps.step)
    torch.save([steps.state_dict(), first.state_dict(), its.state_dict()], tmp_path / "state")
    again, other, went_on = pruning(begun)
    states = torch.load(tmp_path / "state", weights_only=True)
    for one, state in zip((went_on, again, other), states, strict=True):
        one.load_state_dict(state)
    short.train(again, other, STEPS - stop, went_on.step, start=stop)
    assert went_on.report == pruner.report
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


@pytest.mark.parametrize("another", [("lenet5", 8), ("cnn", 16)], ids=["layers", "same widths, other inputs"])
def test_a_policy_for_another_network_is_refused(begun, another):
    _, _, walk = begun()
    policy = LearnedPolicy(network().state_dict(), walk.architecture)
    AgentPruner(walk, policy)
    _, _, other = begun(*another)
    with pytest.raises(ModelError, match="was learned for another architecture"):
        AgentPruner(other, policy)
