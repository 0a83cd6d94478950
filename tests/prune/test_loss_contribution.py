from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from torch import nn

from edgeprune.errors import ConfigError, ModelError
from edgeprune.models.zoo import build
from edgeprune.prune.loss_contribution import LossPruner
from edgeprune.prune.schedule import Schedule

EPOCH = 4
SCHEDULE = Schedule("cubic", start=0, steps=3 * EPOCH, every=EPOCH)


def begun(schedule=SCHEDULE, optimizer="adam", **how):
    torch.manual_seed(0)
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    its = (
        torch.optim.Adam(model.parameters(), lr=0.01)
        if optimizer == "adam"
        else torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    )
    return model, its, LossPruner(model, torch.zeros(1, 1, 8, 8), its, schedule=schedule, **how)


def batch(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(32, 1, 8, 8, generator=generator), torch.randint(0, 10, (32,), generator=generator)


def train(model, optimizer, pruner, steps=5 * EPOCH, start=0, after=lambda: None):
    for step in range(start, start + steps):
        x, y = batch(step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        after()
        pruner.step(loss)


def test_by_a_budget_something_goes_every_epoch_and_then_it_is_only_trained():
    model, optimizer, pruner = begun(keep=0.3)
    train(model, optimizer, pruner)
    report = pruner.report
    assert [event.step for event in report.events] == [4, 8, 12]
    assert report.kept <= 0.3
    assert report.method == "loss"
    for event in report.events:
        assert event.kept <= 1 - 0.7 * SCHEDULE.progress(event.step)
    assert json.loads(json.dumps(asdict(report)))["macs_after"] == report.macs_after


def test_the_training_that_is_saved_is_counted():
    model, optimizer, pruner = begun(keep=0.3, samples=32)
    train(model, optimizer, pruner)
    report = pruner.report
    kept = [1.0, *(event.kept for event in report.events)]
    epochs = [*kept, kept[-1]]  # five, of which the last two have what is left
    assert report.training_flops_dense == 6 * 32 * 5 * EPOCH * report.macs_before
    assert report.training_flops / report.training_flops_dense == pytest.approx(sum(epochs) / 5, rel=1e-6)


def test_a_threshold_bounds_what_the_loss_is_expected_to_do():
    """Silent channels go at once and none that matters: the sum of the roots of all that went, over the mean loss."""
    model, optimizer, pruner = begun(threshold=0.01)
    with torch.no_grad():
        model.dense1.weight.view(128, 64, 4)[:, :20] = 0
        model.conv2.bias[:20] = 0
    optimizer.param_groups[0]["lr"] = 0.0  # what is seen does not move
    changes, losses, read = torch.zeros(64, dtype=torch.float64), [], model.dense1.weight
    for step in range(EPOCH):
        x, y = batch(step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        gates = (read.grad * read.detach()).view(128, 64, 4).sum((0, 2)).double()
        changes += gates**2 / EPOCH
        losses.append(loss.item())
        optimizer.step()
        pruner.step(loss)
    removed = {(cut.module, cut.axis): cut.removed for cut in pruner.log.cuts}
    gone = list(removed.get(("conv2", "out"), ()))
    assert set(range(20)) <= set(gone)
    assert float(changes[gone].sqrt().sum()) <= 0.01 * sum(losses) / len(losses)


def test_connections_take_what_neurons_leave_of_a_threshold_and_never_come_back():
    model, optimizer, pruner = begun(threshold=0.01, connections=0.5)
    held = []

    def check():
        for one in pruner.report.connections:
            weight = model.get_parameter(one.name)
            held.append(int((weight != 0).sum()) <= one.after)

    train(model, optimizer, pruner, after=check)
    assert all(held)
    assert sum(event.dropped for event in pruner.report.events) > 0
    assert all(one.after <= one.before for one in pruner.report.connections)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_share_of_the_connections_goes_with_a_budget(optimizer):
    model, its, pruner = begun(optimizer=optimizer, keep=0.6, connections=0.4)
    train(model, its, pruner)
    weights = [model.get_parameter(one.name) for one in pruner.report.connections]
    zeros = sum(int((one == 0).sum()) for one in weights) / sum(one.numel() for one in weights)
    assert zeros == pytest.approx(0.4, abs=1e-3)
    assert pruner.report.kept <= 0.6
    for one in weights:
        moments = [kept for kept in its.state[one].values() if getattr(kept, "shape", None) == one.shape]
        assert moments
        assert all((kept[one == 0] == 0).all() for kept in moments)


def test_connections_that_change_the_loss_least_go_first():
    """A weight's contribution is E[(g w)^2] (Molchanov et al. 2019, equation 8), held against one counted here."""
    model, optimizer, pruner = begun(Schedule("linear", 0, EPOCH, EPOCH), keep=1.0, connections=0.3)
    names, squares = [one.name for one in pruner.report.connections], []

    def look(*_):
        found = [model.get_parameter(name) for name in names]
        squares.append(torch.cat([(one.grad * one.detach()).square().flatten() for one in found]))

    optimizer.register_step_pre_hook(look)
    train(model, optimizer, pruner, steps=EPOCH)
    expected = torch.stack(squares).mean(0)
    zero = torch.cat([model.get_parameter(name).flatten() == 0 for name in names])
    assert expected[zero].max() <= expected[~zero].min() * (1 + 1e-5)


@pytest.mark.parametrize("how", [{"keep": 0.4, "connections": 0.3}, {"threshold": 0.05, "connections": 0.3}])
@pytest.mark.parametrize("stop", [6, 8])
def test_a_run_that_goes_on_from_its_state_ends_as_an_unbroken_one(how, stop, tmp_path):
    model, optimizer, pruner = begun(**how)
    train(model, optimizer, pruner)
    first, its, steps = begun(**how)
    train(first, its, steps, stop)
    torch.save([steps.state_dict(), first.state_dict(), its.state_dict()], tmp_path / "state")
    again, other, went_on = begun(**how)
    states = torch.load(tmp_path / "state", weights_only=True)
    for one, state in zip((went_on, again, other), states, strict=True):
        one.load_state_dict(state)
    train(again, other, went_on, 5 * EPOCH - stop, start=stop)
    assert went_on.report == pruner.report
    assert went_on.log == pruner.log
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="threshold 0: write the relative change"):
        begun(threshold=0.0)
    with pytest.raises(ConfigError, match="connections 1: write the fraction"):
        begun(connections=1.0)
    with pytest.raises(ConfigError, match=r"keep 0\.0001 cannot be reached"):
        begun(keep=0.0001)
    _, _, pruner = begun(threshold=0.01)
    with pytest.raises(ModelError, match=r"needs the batch's loss: pruner\.step\(loss\)"):
        pruner.step()
