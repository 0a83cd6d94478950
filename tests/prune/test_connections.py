from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.models.zoo import build
from edgeprune.prune.connections import find_connections
from edgeprune.prune.cost import macs, total
from edgeprune.prune.trial import Trial

IMAGES = {"input_shape": (3, 32, 32), "classes": 10}
TEXTS = {"length": 6, "vocabulary": 20, "classes": 2, "task": "classification"}


@pytest.mark.parametrize(
    ("name", "arguments", "example"),
    [
        ("resnet20", IMAGES, torch.zeros(1, 3, 32, 32)),
        ("mobilenetv2", IMAGES, torch.zeros(1, 3, 32, 32)),
        ("bilstm", TEXTS, {"input_ids": torch.ones(1, 6, dtype=torch.int64)}),
    ],
)
def test_all_weights_of_layers_and_all_their_work_are_found(name, arguments, example):
    model = build(name, arguments)
    trial = Trial.of(model, example)
    found, other = find_connections(model, trial)
    assert sum(one.macs for one in found) + other == pytest.approx(total(macs(trial)))
    layers = (nn.Conv2d, nn.Linear, nn.LSTM)
    expected = sum(
        parameter.numel()
        for layer in model.modules()
        if isinstance(layer, layers)
        for own, parameter in layer.named_parameters(recurse=False)
        if own.startswith("weight")
    )
    assert sum(torch.Size(one.shape).numel() for one in found) == expected
    depthwise = {one.name for one in found if one.whole}
    assert bool(depthwise) == (name == "mobilenetv2")


def test_a_weight_that_two_layers_share_stays_whole():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
            self.last.weight = self.first.weight

        def forward(self, x):
            return self.last(self.first(x))

    model = Tied()
    found, _ = find_connections(model, Trial.of(model, torch.zeros(1, 4)))
    assert [one.whole for one in found] == ["it is shared with another layer"]
