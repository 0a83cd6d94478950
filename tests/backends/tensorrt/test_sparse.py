from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeprune.backends.tensorrt.sparse import sparse_layers
from edgeprune.export.to_onnx import export
from edgeprune.graph.load import read_onnx
from edgeprune.models.zoo import build, specs_of
from edgeprune.prune.dynamic.dynamic_pruner import DynamicPruner
from edgeprune.prune.dynamic.updates import Updates

ARGUMENTS = {"input_shape": (3, 8, 8), "classes": 10}


def pruned(tmp_path, **how):
    """A small CNN with weights that are zero, exported, and what its pruner says of each layer."""
    torch.manual_seed(0)
    model = build("cnn", ARGUMENTS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = DynamicPruner(model, torch.zeros(1, 3, 8, 8), optimizer, updates=Updates("static", 1, 1), **how)
    export(model.eval(), specs_of(ARGUMENTS), tmp_path / "model.onnx")
    return read_onnx(tmp_path / "model.onnx"), pruner.report.connections


def test_layers_that_were_trained_in_the_pattern_are_found(tmp_path):
    model, connections = pruned(tmp_path, pattern="2:4")
    followed = [one.name.removesuffix(".weight") for one in connections if one.after < one.before]
    assert "conv1" not in followed  # three inputs
    assert len(followed) > 1
    weights = {node.name: str(node.inputs[1].name) for node in model.graph if len(node.inputs) > 1}
    assert [weights[name].removesuffix(".weight") for name in sparse_layers(model)] == followed


def test_as_many_zeros_anywhere_are_none(tmp_path):
    assert sparse_layers(pruned(tmp_path, sparsity=0.5)[0]) == ()


def test_a_quantized_graph_has_them_too(sparse_model, signed_model):
    assert sparse_layers(read_onnx(sparse_model)) == ("conv2", "fc1", "fc2")
    assert sparse_layers(read_onnx(signed_model)) == ()


@pytest.mark.parametrize("zeros", [[1, 1, 0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0, 0]])
@pytest.mark.parametrize(("text", "axis"), [("MatMul(x, w)", 0), ("Gemm<transB=1>(x, w)", 1), ("Gemm(x, w)", 0)])
def test_the_inputs_of_a_product_are_where_its_operator_has_them(write_onnx, zeros, text, axis):
    weight = np.ones((8, 8), np.float32) * np.expand_dims(zeros, 1 - axis)
    path = write_onnx(f"g (float[batch,8] x) => (float[batch,8] y) {{ [product] y = {text} }}", w=weight)
    assert sparse_layers(read_onnx(path)) == ("product",)
    weight = np.ones((8, 8), np.float32) * np.expand_dims(zeros, axis)  # along the outputs
    path = write_onnx(f"g (float[batch,8] x) => (float[batch,8] y) {{ [product] y = {text} }}", w=weight)
    assert sparse_layers(read_onnx(path)) == ()


@pytest.mark.parametrize("zeros", [[1, 1, 1, 0, 1, 0, 0, 0], [1, 1, 0, 0, 1, 0]])
def test_three_of_four_and_inputs_that_are_no_multiple_of_four_are_none(write_onnx, zeros):
    weight = np.ones((len(zeros), 4), np.float32) * np.expand_dims(zeros, 1)
    text = f"g (float[batch,{len(zeros)}] x) => (float[batch,4] y) {{ [product] y = MatMul(x, w) }}"
    assert sparse_layers(read_onnx(write_onnx(text, w=weight))) == ()
