from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeprune.errors import ConfigError
from edgeprune.prune.agent.observation import FEATURES
from edgeprune.prune.agent.walk import Action
from edgeprune.prune.cost import Price
from edgeprune.prune.taylor import Taylor

STEPS_PER_EPOCH = 3


def named(walk, name):
    return next(number for number, layer in enumerate(walk.layers) if layer.name == name)


def seen(walk, number):
    return dict(zip(FEATURES, walk.observation(number).tolist(), strict=True))


def test_a_decision_point_comes_after_each_interval_and_not_beyond_the_last(short, begun):
    model, optimizer, walk = begun()
    due = []
    short.train(model, optimizer, 12, lambda loss: (walk.step(loss), due.append(walk.is_due)))
    assert [step for step, one in enumerate(due, 1) if one] == [3, 6]


def test_what_is_observed_lies_between_0_and_1_and_says_what_the_layer_is_like(short, begun):
    model, optimizer, walk = begun()
    short.train(model, optimizer, STEPS_PER_EPOCH, walk.step)
    for number, layer in enumerate(walk.layers):
        observation = walk.observation(number)
        assert observation.shape == (len(FEATURES),)
        assert observation.dtype == np.float32
        told = seen(walk, number)
        assert told["channels_left"] == told["density"] == told["cost_left"] == told["weights_left"] == 1
        assert told["loss"] == 0.5  # as it was at first
        assert 0 < told["activation"] < 1
        assert 0 < told["gradient"] < 1
        assert told["neurons_can_go"] == (layer.name != "dense2")
    shares = [seen(walk, number)["share_of_cost"] for number in range(len(walk.layers))]
    assert sum(shares) == pytest.approx(1)


def test_neurons_that_contribute_least_go_with_the_walk(short, begun):
    model, optimizer, walk = begun(k=0.25)
    taylor = Taylor()
    optimizer.register_step_pre_hook(lambda *_: taylor.observe(walk.structure, "channels"))
    short.train(model, optimizer, STEPS_PER_EPOCH, walk.step)
    number = named(walk, "conv2")
    importance = taylor.channels(walk.structure, walk.layers[number].group)
    walk.apply(number, Action.NEURONS)
    assert model.conv2.out_channels == 64  # not before the walk is settled
    assert seen(walk, number)["channels_left"] == 0.75
    removed, dropped = walk.settle()
    assert (removed, dropped) == ({"conv2": 16}, 0)
    assert model.conv2.out_channels == 48
    (gone,) = [cut.removed for cut in walk.structure.log.cuts if (cut.module, cut.axis) == ("conv2", "out")]
    left = [one for one in range(64) if one not in gone]
    assert importance[list(gone)].max() <= importance[left].min()
    short.train(model, optimizer, 1, walk.step)  # the optimizer goes on


def test_connections_go_and_are_held_at_zero_also_where_neurons_went(short, begun):
    model, optimizer, walk = begun(k=0.25)
    short.train(model, optimizer, STEPS_PER_EPOCH, walk.step)
    conv, dense = named(walk, "conv2"), named(walk, "dense1")
    walk.apply(conv, Action.NEURONS)
    walk.apply(dense, Action.CONNECTIONS)
    before = walk.left
    removed, dropped = walk.settle()
    assert removed == {"conv2": 16}
    assert dropped == round(0.25 * 128 * 256)
    assert walk.left == before
    zeros = model.dense1.weight == 0
    assert int(zeros.sum()) == dropped
    short.train(model, optimizer, 2, walk.step)
    assert (model.dense1.weight[zeros] == 0).all()


def test_a_layer_never_loses_its_last_neurons_or_connections_and_no_more_than_the_budget(short, begun):
    model, optimizer, walk = begun(k=0.5, keep=0.01, align=16, decisions=8)
    for _ in range(6):
        short.train(model, optimizer, STEPS_PER_EPOCH, walk.step)
        for number in range(len(walk.layers)):
            walk.apply(number, Action.NEURONS)
            walk.apply(number, Action.CONNECTIONS)
        walk.settle()
    assert all(width >= 16 and width % 16 == 0 for width in (model.conv1.out_channels, model.conv2.out_channels))
    assert all(int((parameter != 0).sum()) > 0 for parameter in model.parameters() if parameter.ndim > 1)
    _, optimizer, walk = begun(k=0.1, keep=0.9)
    short.train(walk.model, optimizer, STEPS_PER_EPOCH, walk.step)
    for _ in range(20):
        walk.apply(named(walk, "conv2"), Action.NEURONS)
    assert 0.7 < walk.left.flops <= 0.9


def test_latency_is_what_prices_say_and_bounds_what_may_go(short, begun):
    """Here half of the time goes with the channels of conv1, and none with those of any other layer."""
    price = Price("conv1", (("conv1", "out"),), lambda lost: 1.0 + (32 - lost[0]) / 32)
    model, optimizer, walk = begun(k=0.25, cost="latency", prices=[price], keep=0.8)
    short.train(model, optimizer, STEPS_PER_EPOCH, walk.step)
    walk.apply(named(walk, "conv2"), Action.NEURONS)
    assert walk.left.latency == 1
    assert walk.left.flops < 1
    for _ in range(4):
        walk.apply(named(walk, "conv1"), Action.NEURONS)
    assert walk.left.latency == (1 + 0.5) / 2  # the second took it below what must stay
    assert seen(walk, named(walk, "conv1"))["cost_left"] == walk.left.latency
    _, _, untimed = begun()
    assert untimed.left.latency == untimed.left.flops


def test_what_cannot_be_is_refused(begun):
    with pytest.raises(ConfigError, match="a decision every 0 steps"):
        begun(every=0)
    with pytest.raises(ConfigError, match="k 1: write the fraction"):
        begun(k=1.0)
    for nonsense in ({"keep": 0.0}, {"keep": 1.5}, {"cost": "time"}, {"align": 0}):
        with pytest.raises(ConfigError, match=f"^{next(iter(nonsense))} "):
            begun(**nonsense)


def test_a_walk_over_a_residual_network_does_not_touch_what_its_shortcuts_pad(short, begun):
    torch.manual_seed(0)
    model, optimizer, walk = begun("resnet20")
    short.train(model, optimizer, STEPS_PER_EPOCH, walk.step)
    for number in range(len(walk.layers)):
        walk.apply(number, Action.NEURONS)
    removed, _ = walk.settle()
    assert removed
    assert all(name.endswith("conv1") for name in removed)
