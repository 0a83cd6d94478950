import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgeprune.graph.cost import macs

GRAPHS = {
    # by hand: outputs x (input channels of the group x kernel)
    "conv": ("y = Conv<pads = [1, 1, 1, 1]>(x, w)", (16, 4, 3, 3), 16 * 64 * 4 * 9),
    "depthwise": ("y = Conv<group = 4>(x, w)", (4, 1, 3, 3), 4 * 36 * 9),
    "upsampling": ("y = ConvTranspose<strides = [2, 2]>(x, w)", (4, 2, 2, 2), (2 * 16 * 16) * 4),
    "product": ("y = MatMul(x, w)", (8, 3), (4 * 8 * 3) * 8),
    "free": ("y = Mul(x, w)", (1,), 0),
}


@pytest.mark.parametrize(("node", "weight", "expected"), GRAPHS.values(), ids=GRAPHS)
def test_multiplications_are_counted_as_by_hand(parse, node, weight, expected):
    model = parse(f"(float[N, 4, 8, 8] x) => (float[N, C, H, W] y) {{ {node} }}", w=np.ones(weight, np.float32))
    assert macs(model) == expected


def test_a_network_counts_as_many_as_torch_counts(parse):
    layers = [nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(200, 10)]
    with FlopCounterMode(display=False) as counter:
        nn.Sequential(*layers)(torch.zeros(1, 3, 16, 16))
    text = """(float[N, 3, 16, 16] x) => (float[N, 10] y) {
        a = Conv<strides = [2, 2]>(x, w1)  b = Conv<group = 8>(a, w2)  c = Flatten(b)  y = Gemm<transB = 1>(c, w3)
    }"""
    weights = [layer.weight.detach().numpy() for layer in layers if hasattr(layer, "weight")]
    model = parse(text, **dict(zip(("w1", "w2", "w3"), weights, strict=True)))
    assert macs(model) == counter.get_total_flops() / 2  # torch counts an addition with each multiplication


def test_a_recurrent_layer_multiplies_both_weights_in_every_step(parse):
    text = "(float[9, N, 3] x) => (float[9, 1, N, 5] y) { y = GRU<hidden_size = 5>(x, w, r) }"
    model = parse(text, w=np.ones((1, 15, 3), np.float32), r=np.ones((1, 15, 5), np.float32))
    assert macs(model) == 9 * (15 * 3 + 15 * 5)
