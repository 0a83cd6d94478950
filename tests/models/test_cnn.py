from __future__ import annotations

import torch

from edgeprune.models.cnn import Cnn, CnnFc

SHAPE = (1, 8, 8)


def test_one_has_two_dense_layers_and_the_other_one():
    assert set(dict(Cnn(input_shape=SHAPE, classes=10).named_children())) >= {"dense1", "dense2"}
    parameters = {name: tuple(p.shape) for name, p in CnnFc(input_shape=SHAPE, classes=10).named_parameters()}
    assert parameters == {
        "conv1.weight": (32, 1, 3, 3),
        "conv1.bias": (32,),
        "conv2.weight": (64, 32, 3, 3),
        "conv2.bias": (64,),
        "dense.weight": (10, 64 * 2 * 2),
        "dense.bias": (10,),
    }


def test_of_equal_weights_both_see_the_same_features():
    torch.manual_seed(0)
    two, one = Cnn(input_shape=SHAPE, classes=256), CnnFc(input_shape=SHAPE, classes=256)
    with torch.no_grad():
        one.load_state_dict({name: p for name, p in two.state_dict().items() if "conv" in name}, strict=False)
        one.dense.weight.copy_(torch.eye(256))
        one.dense.bias.zero_()
        x = torch.randn(2, *SHAPE)
        torch.testing.assert_close(two(x), two.dense2(torch.relu(two.dense1(one(x)))))
