from __future__ import annotations

import torch
from torch import nn

from edgeprune.models.zoo import build
from edgeprune.prune.contributions import Contributions
from edgeprune.prune.structure import Piece, Structure


def observed():
    torch.manual_seed(0)
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    contributions, squares = Contributions(model, ["conv2.weight", "dense1.weight"]), []
    for _ in range(3):
        model.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(8, 1, 8, 8)), torch.randint(0, 10, (8,))).backward()
        contributions.observe()
        squares.append((model.conv2.weight.grad * model.conv2.weight.detach()) ** 2)
    return model, contributions, torch.stack(squares).mean(0).sqrt()


def test_they_are_the_root_of_the_mean_square_of_gradient_times_weight():
    _, contributions, expected = observed()
    torch.testing.assert_close(contributions.of("conv2.weight"), expected)
    contributions.clear()
    assert contributions.of("conv2.weight") is None


def test_they_are_cut_with_the_weights():
    model, contributions, expected = observed()
    structure = Structure(model, torch.zeros(1, 1, 8, 8))
    group = next(number for number, one in enumerate(structure.groups) if ("out", "conv2") in one.sides)
    with contributions.cut_along():
        structure.remove([Piece(group, (0, 5, 63))])
    kept = [one for one in range(64) if one not in (0, 5, 63)]
    torch.testing.assert_close(contributions.of("conv2.weight"), expected[kept])
    assert contributions.of("dense1.weight").shape == model.dense1.weight.shape
    assert model.conv2.weight.grad is None
