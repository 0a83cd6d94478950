import copy

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune.errors import ModelError
from edgeprune.export.to_onnx import export
from edgeprune.graph.load import read_onnx
from edgeprune.models.zoo import build, specs_of
from edgeprune.quantize.constants import array
from edgeprune.quantize.sensitivity.candidates import nearest
from edgeprune.quantize.sensitivity.curvature import curvature
from edgeprune.quantize.sensitivity.divergence import divergence
from edgeprune.quantize.sensitivity.likelihood import Likelihood

IMAGES = {"input_shape": (3, 32, 32), "classes": 1}
TEXTS = {"vocabulary": 50, "length": 12, "classes": 1, "task": "regression"}
SAMPLES = 4


def warmed(name: str, arguments: dict) -> nn.Module:
    """With statistics of batches, and factors behind them, that are not those it was born with."""
    torch.manual_seed(0)
    model = build(name, arguments)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def samples(name: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    if name in {"resnet20", "mobilenetv2"}:
        return {"input": random.normal(size=(SAMPLES, 3, 32, 32)).astype(np.float32)}
    ids = random.integers(1, 50, (SAMPLES, 12))
    if "lstm" in name:
        return {"input_ids": ids}
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


SYSTEM = [pytest.param(name, marks=pytest.mark.system) for name in ("mobilenetv2", "lstm")]


@pytest.mark.parametrize("name", ["resnet20", "bilstm", "bert-mini", *SYSTEM])
def test_every_weight_of_a_graph_is_found_in_its_module(name, tmp_path):
    """Where the answer is one value, both ways to measure agree on weights that hardly move, but for kinks of ReLUs."""
    arguments = IMAGES if name in {"resnet20", "mobilenetv2"} else TEXTS
    model = warmed(name, arguments)
    export(model, specs_of(arguments), tmp_path / "model.onnx")
    graph, feeds = read_onnx(tmp_path / "model.onnx"), samples(name)
    value = {str(graph.graph.outputs[0].name): Likelihood("value")}
    candidates = {
        weight: {
            one: real + np.float32(0.001) * (rounded - real)
            for one, rounded in found.items()
            for real in [array(graph.graph.initializers[weight])]
        }
        for weight, found in nearest(graph).items()
    }
    predicted = curvature(model, graph, feeds, candidates, value, np.random.default_rng(0)).layers
    measured = divergence(graph, feeds, candidates, value, np.random.default_rng(0), passes=1000).layers
    assert predicted.keys() == measured.keys()
    for weight, found in predicted.items():
        assert found.losses["int4"] == pytest.approx(measured[weight].losses["int4"], rel=0.5), weight
        assert len(found.channels) == len(measured[weight].channels)


def test_the_module_stays_as_it_was(digits):
    before = {name: tensor.clone() for name, tensor in digits.module.state_dict().items()}
    model = copy.deepcopy(digits.module).train().requires_grad_(False)
    feeds = {"input": digits.calibration[:2]}
    curvature(
        model, digits.model, feeds, nearest(digits.model), {"output": Likelihood("classes")}, np.random.default_rng(0)
    )
    assert model.training
    assert not any(one.requires_grad for one in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_module_that_the_graph_is_not_of_is_refused(digits):
    other = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    feeds = {"input": digits.calibration[:2]}
    with pytest.raises(ModelError, match=r"'conv1\.weight' of the graph is no weight of Cnn"):
        curvature(other, digits.model, feeds, nearest(digits.model), {}, np.random.default_rng(0))
