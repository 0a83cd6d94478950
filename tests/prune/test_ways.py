from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.models.zoo import build
from edgeprune.prune.structured import StructuredPruner
from edgeprune.prune.trial import Trial

X = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TEXT = {"length": 6, "vocabulary": 20, "classes": 2, "task": "classification"}


class Sometimes(nn.Module):
    """A layer that runs where `takes` says so of the input."""

    def __init__(self, takes):
        super().__init__()
        self.takes = takes
        self.first, self.between = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.second, self.last = nn.Conv2d(16, 32, 3, padding=1), nn.Linear(32, 10)

    def forward(self, x):
        taken = self.takes(x)
        x = self.first(x).relu()
        for _ in range(int(taken)):
            x = self.between(x).relu()
        return self.last(self.second(x).relu().mean((2, 3)))


TAKES = {
    "below": lambda x: x[0].mean() < 0,
    "above": lambda x: x[0].mean() > 0,
    "always": lambda x: x.abs().mean() > 0,
    "never": lambda x: x.abs().mean() < 0,
    "item": lambda x: x.mean().item() > 0.01,
    "not item": lambda x: not x.mean().item() > 0.01,
    "list": lambda x: x.flatten(1).argmax(1).tolist()[0] % 2,
    "loop": lambda x: x[0].flatten().argmax() % 3,
    "equal": lambda x: torch.equal(x, x.abs()),
    "elements": lambda x: x[x > 20].numel() > 0,
}


@pytest.mark.parametrize("takes", TAKES.values(), ids=TAKES)
def test_what_stands_around_a_layer_that_runs_on_some_inputs_only_stays_whole_whichever_way_the_example_takes(takes):
    torch.manual_seed(0)
    model = Sometimes(takes)
    pruner = StructuredPruner(model, X, keep=0.7)
    told = " ".join(pruner.structure.whole)
    assert told.startswith("first")
    assert ": Sometimes does not run" in told
    pruner.step()
    assert {one.name: one.after for one in pruner.report.layers if one.after == one.before} == {
        "first": 16,
        "between": 16,
        "last": 10,
    }
    for way in Trial.of(model, X).ways:
        way.outputs(model)


class Turned(nn.Module):
    """The same layers run, on other channels."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 8, 3), nn.Conv2d(1, 8, 3)
        self.second, self.last = nn.Conv2d(16, 8, 3), nn.Conv2d(8, 5, 4)

    def forward(self, x):
        both = [self.left(x), self.right(x)]
        x = torch.cat(both if x.mean() > -9 else both[::-1], 1)
        return self.last(self.second(x)).flatten(1)


def test_channels_that_other_inputs_put_elsewhere_stay():
    whole = StructuredPruner(Turned(), X, keep=1.0).structure.whole
    assert [line.partition(" does not run the same on every input")[0] for line in whole] == ["left, right: Turned"]


class Scaled(nn.Module):
    """Numbers are read that decide nothing: of the inputs, of their shape, of a weight and of a constant."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 16, 3), nn.Linear(16, 10)
        self.gain = nn.Parameter(torch.ones(()))
        self.register_buffer("limit", torch.tensor(3.0))

    def forward(self, x):
        if torch.tensor(x.shape[1]) > 1 or self.gain.item() < -5 or self.limit < 0 or torch.zeros_like(x).sum() > 1:
            x = self.last(x)
        return self.last((self.first(x) / x.abs().max().item()).relu().mean((2, 3)))


def test_numbers_that_decide_nothing_keep_nothing_whole():
    trial = Trial.of(Scaled(), X)
    assert len(trial.ways) == 1
    assert len(trial.ways[0].read) == 1
    assert StructuredPruner(Scaled(), X, keep=1.0).structure.whole == ()


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2", "lenet5", "lstm", "bilstm"])
def test_networks_that_always_run_the_same_have_one_way(name):
    text = "lstm" in name
    model = build(name, TEXT if text else {"input_shape": (3, 32, 32), "classes": 10})
    example = {"input_ids": torch.arange(1, 7).unsqueeze(0)} if text else torch.zeros(1, 3, 32, 32)
    assert len(Trial.of(model, example).ways) == 1


def test_a_mask_that_an_encoder_looks_at_keeps_nothing_whole():
    pytest.importorskip("transformers")
    ids = torch.arange(1, 7).unsqueeze(0)
    trial = Trial.of(build("bert-mini", TEXT), {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    outputs = [way.outputs(trial.model) for way in trial.ways]
    assert len(outputs) == 2  # it skips a mask of ones
    torch.testing.assert_close(outputs[0]["logits"], outputs[1]["logits"])


class Endless(nn.Module):
    """Halves its input until it is small, however often that takes; a wrong number fails."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 16, 3), nn.Linear(16, 10)

    def forward(self, x):
        while x.abs().max().item() > 1:
            x = x / 2
        count = int(x.sum().item())
        assert abs(count) < 100
        return self.last(self.first(x).relu().mean((2, 3)))


def test_ways_that_fail_say_nothing():
    assert StructuredPruner(Endless(), X, keep=1.0).structure.whole == ()
