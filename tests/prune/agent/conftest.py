"""A short training on random images, for agents to prune."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from edgeprune.models.zoo import build
from edgeprune.prune.agent.reward import Judged
from edgeprune.prune.agent.walk import Walk

STEPS_PER_EPOCH = 3


def made(name="cnn", side=8):
    return build(name, {"input_shape": (1, side, side), "classes": 10})


def batch(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(16, 1, 8, 8, generator=generator), torch.randint(0, 10, (16,), generator=generator)


def train(model, optimizer, steps, each, start=0):
    """So many steps, and what takes part in them: `each` is called with the loss."""
    for step in range(start, start + steps):
        x, y = batch(step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        each(loss)


@pytest.fixture
def begun():
    """A network, its optimizer and a walk in it."""

    def begin(name="cnn", side=8, **how):
        torch.manual_seed(0)
        model = made(name, side)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        how = {"every": STEPS_PER_EPOCH, "decisions": 2} | how
        return model, optimizer, Walk(model, torch.zeros(1, 1, side, side), optimizer, **how)

    return begin


def begin(episode, make, epochs=3):
    """A training for an environment: an epoch at each turn."""
    torch.manual_seed(episode)
    model = made()

    def turns():
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        walk = make(model, optimizer, epochs * STEPS_PER_EPOCH)
        for epoch in range(epochs):
            train(model, optimizer, STEPS_PER_EPOCH, walk.step, start=100 * episode + epoch * STEPS_PER_EPOCH)
            yield epoch

    return model, turns()


def make_walk(model, optimizer, steps):
    return Walk(model, torch.zeros(1, 1, 8, 8), optimizer, every=STEPS_PER_EPOCH, decisions=2, keep=0.3)


def judge(model):
    x, y = batch(10**6)
    with torch.no_grad():
        scores = model(x)
    return Judged(float((scores.argmax(1) == y).float().mean()), float(nn.functional.cross_entropy(scores, y)))


@pytest.fixture(scope="session")
def short():
    """All of the above, by name."""
    return SimpleNamespace(train=train, batch=batch, made=made, begin=begin, make_walk=make_walk, judge=judge)
