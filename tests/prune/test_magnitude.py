from __future__ import annotations

import pytest
import torch
import torch_pruning
from torch import nn

from edgeprune.models.zoo import build
from edgeprune.prune.magnitude import Magnitude
from edgeprune.prune.structure import Structure


@pytest.mark.parametrize(("name", "shape"), [("cnn", (1, 8, 8)), ("resnet20", (3, 32, 32)), ("resnet18", (3, 8, 8))])
def test_importance_is_the_group_magnitude_of_torch_pruning(name, shape):
    torch.manual_seed(0)
    model = build(name, {"input_shape": shape, "classes": 10})
    example = torch.zeros(1, *shape)
    structure = Structure(model, example)
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=(example,))
    score = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    for number, (group, theirs) in enumerate(zip(structure.groups, graph.get_all_groups(), strict=True)):
        if not group.whole:
            ours = Magnitude().channels(structure, number).float()
            torch.testing.assert_close(ours, score(theirs), rtol=1e-4, atol=1e-6)


def test_a_depthwise_filter_counts_as_any_layer_does():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 1, 1), nn.Flatten())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1)
        model[1].weight[0] = 2
    structure = Structure(model, torch.zeros(1, 1, 3, 3))
    (inner,) = [number for number, group in enumerate(structure.groups) if ("out", "1") in group.sides]
    squares = torch.tensor([1 + 4 * 9 + 1, 1 + 9 + 1], dtype=torch.float64)
    torch.testing.assert_close(Magnitude().channels(structure, inner), squares / squares.mean())


def test_a_block_matters_as_much_as_the_scale_its_branch_ends_in():
    torch.manual_seed(0)
    structure = Structure(build("resnet20", {"input_shape": (3, 32, 32), "classes": 10}), torch.zeros(1, 3, 32, 32))
    block = next(one for one in structure.blocks if one.name == "layer2.1")
    structure.model.layer2[1].bn2.weight.data.fill_(0.5)
    assert Magnitude().block(structure, block) == pytest.approx(0.25)
