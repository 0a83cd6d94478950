from __future__ import annotations

import pytest
import torch

from edgeprune.models.mobilenet import InvertedResidual, MobileNetV2
from edgeprune.prune.groups import Trial, find_groups


def test_weights_are_laid_out_as_in_torchvision():
    state = MobileNetV2(input_shape=(3, 224, 224), classes=1000).state_dict()
    shapes = {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.0.1.running_mean": (32,),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.bias": (16,),
        "features.2.conv.0.0.weight": (96, 16, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.2.conv.1.1.weight": (96,),
        "features.2.conv.2.weight": (24, 96, 1, 1),
        "features.2.conv.3.running_var": (24,),
        "features.17.conv.2.weight": (320, 960, 1, 1),
        "features.18.0.weight": (1280, 320, 1, 1),
        "features.18.1.num_batches_tracked": (),
        "classifier.1.weight": (1000, 1280),
        "classifier.1.bias": (1000,),
    }
    assert len(state) == 314
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize(("size", "last"), [(224, 7), (64, 2), (32, 4), (8, 1)])
def test_small_images_are_halved_three_times_and_others_five_times(size, last):
    model = MobileNetV2(input_shape=(3, size, size), classes=2).eval()
    with torch.no_grad():
        assert model.features(torch.zeros(1, 3, size, size)).shape == (1, 1280, last, last)


@pytest.mark.parametrize(("outputs", "stride", "shortcut"), [(16, 1, True), (16, 2, False), (24, 1, False)])
def test_a_block_has_a_shortcut_where_its_shapes_agree(outputs, stride, shortcut):
    block = InvertedResidual(16, outputs, stride, 6).eval()
    with torch.no_grad():
        block.conv[-1].weight.zero_()  # all that is left is the shortcut
        x = torch.randn(1, 16, 8, 8)
        assert torch.equal(block(x), x) if shortcut else not block(x).any()


def test_a_filter_goes_with_the_channel_that_it_filters():
    model = MobileNetV2(input_shape=(3, 8, 8), classes=2)
    groups = find_groups(Trial.of(model, torch.zeros(1, 3, 8, 8))).found
    (inner,) = [group for group in groups if ("out", "features.2.conv.1.0") in group.sides]
    assert not inner.whole
    assert inner.sides == {
        *(("out", f"features.2.conv.{name}") for name in ("0.0", "0.1", "1.0", "1.1")),
        ("in", "features.2.conv.2"),
    }
    assert [group.whole for group in groups if group.whole] == ["it is the output"]
