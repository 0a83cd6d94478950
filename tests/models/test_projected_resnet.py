from __future__ import annotations

import pytest
import torch

from edgeprune.models.projected_resnet import BasicBlock, Bottleneck, ProjectedResNet, resnet18, resnet50
from edgeprune.prune.groups import Trial, find_groups

LARGE, SMALL = (3, 224, 224), (3, 32, 32)


@pytest.mark.parametrize(
    ("factory", "entries", "shapes"),
    [
        (
            resnet18,
            122,
            {
                "conv1.weight": (64, 3, 7, 7),
                "bn1.running_mean": (64,),
                "layer1.0.conv1.weight": (64, 64, 3, 3),
                "layer1.1.bn2.num_batches_tracked": (),
                "layer2.0.conv1.weight": (128, 64, 3, 3),
                "layer2.0.downsample.0.weight": (128, 64, 1, 1),
                "layer2.0.downsample.1.weight": (128,),
                "layer4.1.conv2.weight": (512, 512, 3, 3),
                "fc.weight": (1000, 512),
                "fc.bias": (1000,),
            },
        ),
        (
            resnet50,
            320,
            {
                "conv1.weight": (64, 3, 7, 7),
                "layer1.0.conv1.weight": (64, 64, 1, 1),
                "layer1.0.conv3.weight": (256, 64, 1, 1),
                "layer1.0.downsample.0.weight": (256, 64, 1, 1),
                "layer3.5.conv2.weight": (256, 256, 3, 3),
                "layer4.0.downsample.1.running_var": (2048,),
                "layer4.2.bn3.bias": (2048,),
                "fc.weight": (1000, 2048),
            },
        ),
    ],
    ids=["resnet18", "resnet50"],
)
def test_weights_are_laid_out_as_in_torchvision(factory, entries, shapes):
    with torch.device("meta"):
        state = factory(input_shape=LARGE, classes=1000).state_dict()
    assert len(state) == entries
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize(("shape", "sizes"), [(LARGE, (56, 28, 14, 7)), (SMALL, (32, 16, 8, 4))])
def test_stages_see_maps_of_the_papers_sizes(shape, sizes):
    model = ProjectedResNet(BasicBlock, (1, 1, 1, 1), input_shape=shape, classes=2).eval()
    found = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda _, __, output: found.append(output.shape[-1]))
    with torch.no_grad():
        model(torch.zeros(1, *shape))
    assert tuple(found) == sizes


def test_a_bottleneck_strides_in_its_middle():
    block = Bottleneck(64, 32, 2)
    assert [layer.stride for layer in (block.conv1, block.conv2, block.conv3)] == [(1, 1), (2, 2), (1, 1)]


def test_a_stages_stream_can_be_cut_as_a_whole():
    model = ProjectedResNet(Bottleneck, (2, 1, 1, 1), input_shape=SMALL, classes=2)
    groups = find_groups(Trial.of(model, torch.zeros(1, *SMALL))).found
    (stream,) = [group for group in groups if ("out", "layer1.0.conv3") in group.sides]
    assert not stream.whole
    assert stream.sides == {
        *(("out", f"layer1.{name}") for name in ("0.conv3", "0.bn3", "0.downsample.0", "0.downsample.1")),
        *(("out", f"layer1.{name}") for name in ("1.conv3", "1.bn3")),
        *(("in", name) for name in ("layer1.1.conv1", "layer2.0.conv1", "layer2.0.downsample.0")),
    }
    assert [group.whole for group in groups if group.whole] == ["it is the output"]
