from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.errors import ModelError
from edgeprune.prune.masks import Masks, lowest

ACTIVE = torch.tensor([[True, False, True, False]] * 3)
OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
}


def masked(optimizer="adam"):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    its = OPTIMIZERS[optimizer](layer.parameters())
    return layer, its, Masks(layer, its)


def step(layer, optimizer):
    optimizer.zero_grad()
    layer(torch.randn(5, 4)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_not_active_is_zero_and_forgotten_by_the_optimizer(optimizer):
    layer, its, masks = masked(optimizer)
    for _ in range(3):
        step(layer, its)
    masks.set({"weight": ACTIVE})
    for _ in range(3):
        kept = [one for one in its.state[layer.weight].values() if getattr(one, "shape", None) == layer.weight.shape]
        assert kept
        for tensor in (layer.weight, *kept):
            assert (tensor[~ACTIVE] == 0).all()
            assert (tensor[ACTIVE] != 0).all()
        assert (layer.bias != 0).all()
        step(layer, its)


def test_even_what_is_no_number_becomes_zero():
    layer, _, masks = masked()
    with torch.no_grad():
        layer.weight[0, 1] = torch.nan
    masks.set({"weight": ACTIVE})
    assert (layer.weight[~ACTIVE] == 0).all()


def test_counts_and_state_are_of_what_is_active():
    _, _, masks = masked()
    assert masks.counts() == {}
    masks.set({"weight": ACTIVE})
    assert masks.counts() == {"weight": 6}
    layer, _, again = masked()
    again.load_state_dict(masks.state_dict())
    assert torch.equal(again.active("weight"), ACTIVE)
    assert (layer.weight[~ACTIVE] == 0).all()
    for other in ({"weight": torch.ones(2, 2, dtype=torch.bool)}, {"other": ACTIVE}):
        with pytest.raises(ModelError, match="the masks are another network's"):
            again.load_state_dict(other)


def test_zeros_that_are_there_can_be_held():
    layer, its, masks = masked()
    with torch.no_grad():
        layer.weight[~ACTIVE] = 0
    masks.set_by_zeros(["weight"])
    step(layer, its)
    assert torch.equal(layer.weight != 0, ACTIVE)


def test_the_lowest_are_chosen_among_some_only():
    scores = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
    among = torch.tensor([[True, True], [False, True]])
    assert lowest(scores, among, 2).tolist() == [[False, True], [False, True]]
