from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from torch import nn

from edgeprune.errors import ConfigError, ModelError
from edgeprune.models.zoo import build
from edgeprune.prune.dynamic.dynamic_pruner import DynamicPruner
from edgeprune.prune.dynamic.updates import Updates

STEPS = 24
FINE = Updates("fine", STEPS, every=4)
COARSE = Updates("coarse", STEPS, every=4, drop=0.2, regrow=0.2)
OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
}


def begun(updates=FINE, optimizer="adam", name="lenet5", **how):
    torch.manual_seed(0)
    model = build(name, {"input_shape": (1, 8, 8), "classes": 10})
    its = OPTIMIZERS[optimizer](model.parameters())
    how = {"sparsity": 0.5} | how
    return model, its, DynamicPruner(model, torch.zeros(1, 1, 8, 8), its, updates=updates, **how)


def train(model, optimizer, pruner, steps=STEPS, start=0, after=lambda: None):
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(32, 1, 8, 8, generator=generator), torch.randint(0, 10, (32,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        after()
        pruner.step()


def active_weights(model, pruner):
    names = [one.name for one in pruner.report.connections]
    return {name: model.get_parameter(name) != 0 for name in names}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["fine", "coarse", "static", "one-shot"])
def test_masks_hold_exactly_at_every_step(kind, optimizer):
    """After the optimizer's step already, before the pruner's, and in the optimizer's moments."""
    model, its, pruner = begun(Updates(kind, STEPS, every=4, drop=0.2), optimizer)
    seen = []

    def check():
        seen.append(1)
        for name in pruner.masks.counts():
            parameter, off = model.get_parameter(name), ~pruner.masks.active(name)
            assert (parameter[off] == 0).all()
            moments = [one for one in its.state[parameter].values() if getattr(one, "shape", None) == parameter.shape]
            assert all((one[off] == 0).all() for one in moments)

    train(model, its, pruner, after=check)
    check()
    assert len(seen) == STEPS + 1


def test_the_fine_one_changes_which_and_not_how_many():
    model, its, pruner = begun(sparsity=0.9)
    first, sizes = active_weights(model, pruner), pruner.masks.counts()
    train(model, its, pruner)
    report = pruner.report
    assert [event.step for event in report.events] == [4, 8, 12, 16]
    assert all(event.dropped == event.grown > 0 for event in report.events)
    assert pruner.masks.counts() == sizes
    assert any(not torch.equal(first[name], pruner.masks.active(name)) for name in first)
    assert report.kept == pytest.approx(0.1, abs=1e-4)
    assert json.loads(json.dumps(asdict(report)))["method"] == "dynamic"


def test_the_coarse_one_begins_dense_and_drops_a_fifth_of_which_a_fifth_is_grown():
    model, its, pruner = begun(COARSE, distribution="uniform", sparsity=0.55)
    assert pruner.report.kept == 1
    train(model, its, pruner)
    kept = [event.kept for event in pruner.report.events]
    assert kept == pytest.approx([0.84, 0.84**2, 0.84**3, 0.84**4, 0.45], abs=1e-3)
    one = pruner.report.events[0]
    assert one.grown / one.dropped == pytest.approx(0.2, abs=0.01)


def test_new_connections_begin_at_zero_where_the_gradient_is_largest():
    model, its, pruner = begun(Updates("fine", STEPS, every=2))
    before = {name: pruner.masks.active(name) for name in pruner.masks.counts()}
    train(model, its, pruner, steps=1)
    x, y = torch.randn(32, 1, 8, 8), torch.randint(0, 10, (32,))
    its.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    gradients = {name: model.get_parameter(name).grad.abs().clone() for name in before}
    its.step()
    pruner.step()
    for name, old in before.items():
        new = pruner.masks.active(name) & ~old
        assert (model.get_parameter(name)[new] == 0).all()
        never = ~pruner.masks.active(name) & ~old
        if new.any() and never.any():
            assert gradients[name][new].min() >= gradients[name][never].max()


def test_one_shot_keeps_the_largest_weights_and_a_layer_of_its_own_share():
    model, its, pruner = begun(Updates("one-shot", STEPS, every=6), sparsity=0.8)
    train(model, its, pruner, steps=5)
    assert pruner.report.kept == 1
    train(model, its, pruner, steps=1, start=5)
    assert pruner.report.kept == pytest.approx(0.2, abs=1e-4)
    assert [event.grown for event in pruner.report.events] == [0]


def test_two_of_each_four_inputs_stay_active_and_the_others_change():
    model, its, pruner = begun(name="cnn", sparsity=None, pattern="2:4")
    first = pruner.masks.active("conv2.weight")
    train(model, its, pruner)
    last = pruner.masks.active("conv2.weight")
    assert not torch.equal(first, last)
    for start in range(0, 32, 4):
        assert (last[:, start : start + 4].sum(1) == 2).all()
    reasons = {one.name: one.reason for one in pruner.report.connections}
    assert reasons["conv1.weight"] == "its 1 inputs are no multiple of 4"
    assert pruner.report.keep == pytest.approx(0.5, abs=0.01)


def test_the_work_of_the_training_is_counted():
    """Static masks: three passes of the active connections, per sample, at every step."""
    model, its, pruner = begun(Updates("static", STEPS), sparsity=0.8, samples=32)
    train(model, its, pruner)
    report = pruner.report
    assert report.training_flops_dense == 6 * 32 * STEPS * report.macs_before
    assert report.training_flops == pytest.approx(6 * 32 * STEPS * report.macs_after, rel=1e-4)
    fine, its, grows = begun(Updates("fine", STEPS, every=1, until=1.0), sparsity=0.8, samples=32)
    train(fine, its, grows)
    assert grows.report.training_flops == pytest.approx(
        2 * 32 * (STEPS * 3 * report.macs_after + (STEPS - 1) * (report.macs_before - report.macs_after)), rel=1e-3
    )


@pytest.mark.parametrize("kind", ["fine", "coarse", "one-shot"])
@pytest.mark.parametrize("stop", [5, 8])
def test_a_run_that_goes_on_from_its_state_ends_as_an_unbroken_one(kind, stop, tmp_path):
    updates = Updates(kind, STEPS, every=6, drop=0.2)
    model, optimizer, pruner = begun(updates, sparsity=0.3)
    train(model, optimizer, pruner)
    first, its, steps = begun(updates, sparsity=0.3)
    train(first, its, steps, stop)
    torch.save([steps.state_dict(), first.state_dict(), its.state_dict()], tmp_path / "state")
    again, other, went_on = begun(updates, sparsity=0.3, seed=1)
    states = torch.load(tmp_path / "state", weights_only=True)
    for one, state in zip((went_on, again, other), states, strict=True):
        one.load_state_dict(state)
    train(again, other, went_on, STEPS - stop, start=stop)
    assert went_on.report == pruner.report
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


def test_drawn_weights_give_what_they_gave_though_most_are_missing():
    model, _, pruner = begun(sparsity=0.9, name="cnn")
    torch.manual_seed(0)
    dense = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    for name, count in pruner.masks.counts().items():
        if count > 1000:
            before, after = (one.get_parameter(name).square().sum().item() for one in (dense, model))
            assert after == pytest.approx(before, rel=0.1)


def test_a_trained_network_begins_with_its_large_weights():
    _, _, pruner = begun(sparsity=0.5, begin="magnitude", distribution="uniform")
    torch.manual_seed(0)
    dense = build("lenet5", {"input_shape": (1, 8, 8), "classes": 10})
    for name in pruner.masks.counts():
        active, weight = pruner.masks.active(name), dense.get_parameter(name).abs()
        if not active.all():
            assert weight[active].min() >= weight[~active].max()


def test_recurrent_weights_are_dropped_and_embeddings_stay():
    torch.manual_seed(0)
    model = build("lstm", {"length": 6, "vocabulary": 20, "classes": 2, "task": "classification"})
    optimizer = torch.optim.Adam(model.parameters())
    ids = torch.randint(1, 20, (8, 6))
    updates = Updates("fine", 8, every=2)
    pruner = DynamicPruner(model, {"input_ids": ids[:1]}, optimizer, updates=updates, sparsity=0.7)
    for _ in range(4):
        optimizer.zero_grad()
        model(ids).square().sum().backward()
        optimizer.step()
        pruner.step()
    names = {one.name for one in pruner.report.connections}
    assert any("weight_hh" in name for name in names)
    assert not any("embedding" in name for name in names)
    assert pruner.report.kept == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"sparsity": None}, "sparsity None: write the fraction"),
        ({"sparsity": 1.0}, "sparsity 1.0: write the fraction"),
        ({"sparsity": 0.99999}, "sparsity 0.99999 cannot be reached with the erdos-renyi-kernel distribution"),
        ({"sparsity": 0.999, "distribution": "uniform"}, "uniform distribution, .* conv1.weight whole: 0.99"),
        ({"pattern": "2:4"}, "sparsity 0.5 and the pattern 2:4 exclude each other"),
        ({"pattern": "2:4", "sparsity": None, "updates": COARSE}, "a pattern 2:4 has one: use fine"),
        ({"pattern": "1:11", "sparsity": None}, "pattern 1:11: no layer has a multiple of 11 inputs"),
    ],
)
def test_what_cannot_be_asked_of_it_is_refused(how, message):
    with pytest.raises(ConfigError, match=message):
        begun(**how)


def test_another_optimizer_and_the_state_of_another_network_are_told():
    _, _, pruner = begun(Updates("fine", STEPS, every=1))
    with pytest.raises(ModelError, match="no gradients were seen: call step"):
        pruner.step()
    _, _, other = begun(name="cnn")
    with pytest.raises(ModelError, match="another network's"):
        pruner.load_state_dict(other.state_dict())
