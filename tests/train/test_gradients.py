from __future__ import annotations

import torch
from torch import nn

from edgeprune.data.datasets import describe, read
from edgeprune.recipe import Rows, TrainPart
from edgeprune.train.gradients import gradients

INFO = describe("digits")
FEW = read(Rows(source="digits:all", stop=100), INFO)


def test_each_turn_leaves_the_gradients_of_another_batch_and_changes_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)).train()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    seen = []
    batches = gradients(model, FEW, INFO.preprocess, TrainPart(batch=20), task="classification", seed=0, batches=3)
    for _ in batches:
        seen.append(model[0].weight.grad.clone())
        assert not model.training  # so that its statistics stay
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    assert model.training
    assert model[0].weight.grad is None
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_more_batches_than_there_are_give_what_there_is():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    part = TrainPart(batch=40)
    assert list(gradients(model, FEW, INFO.preprocess, part, task="classification", seed=0, batches=9)) == [0, 1, 2]
