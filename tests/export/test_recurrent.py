import numpy as np
import pytest
from torch import Tensor, nn

from edgeprune.export import parity
from edgeprune.export.to_onnx import export
from edgeprune.graph.load import read_onnx
from edgeprune.tensor import TensorSpec

SEQUENCE = (TensorSpec("x", "float32", ("batch", 5, 3)),)


class Reader(nn.Module):
    """Any recurrent layer, and the mean over time."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.reader = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.reader(x)[0].mean(1)
        return out


@pytest.mark.parametrize(
    ("layer", "nodes"),
    [
        (nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True), ["reader", "reader.l1"]),
        (nn.LSTM(3, 4, bias=False, batch_first=True), ["reader"]),
        (nn.GRU(3, 4, bidirectional=True, batch_first=True), ["reader"]),
    ],
    ids=str,
)
def test_recurrent_layers_and_their_weights_are_named_after_their_module(tmp_path, layer, nodes):
    model = Reader(layer)
    exported = export(model, SEQUENCE, tmp_path / "m.onnx")
    graph = read_onnx(exported.file).graph
    found = [node for node in graph if node.op_type in {"LSTM", "GRU", "RNN"}]
    assert [node.name for node in found] == nodes
    for level, node in enumerate(found):
        parts = ["weight_ih", "weight_hh"] + ["bias"] * bool(layer.bias)
        assert [value.name for value in node.inputs[1 : 1 + len(parts)]] == [
            f"reader.{part}_l{level}" for part in parts
        ]
    x = np.random.default_rng(0).normal(size=(parity.SAMPLES, 5, 3)).astype(np.float32)
    assert parity.check(model, exported.file, {"x": x}) < 1e-6
