"""Every model of the zoo in its full size: multiply-accumulates counted on the module are those of its ONNX file."""

from __future__ import annotations

import pytest
import torch

from edgeprune.export.to_onnx import export
from edgeprune.graph import cost
from edgeprune.graph.load import read_onnx
from edgeprune.models.calling import INPUT, inputs_of
from edgeprune.models.zoo import ZOO, build, specs_of
from edgeprune.prune.cost import Bill, macs
from edgeprune.prune.trial import Trial

pytestmark = pytest.mark.system

TEXT = {"length": 32, "vocabulary": 1000, "classes": 2, "task": "classification"}
TEXTS = ("bert-base", "bert-mini", "bilstm", "distilbert", "lstm")
CIFAR, GREY, LARGE = (3, 32, 32), (1, 28, 28), (3, 224, 224)
SHAPES = {"lenet5": GREY, "resnet18": LARGE, "resnet50": LARGE, "mobilenetv2": LARGE}


@pytest.mark.parametrize("name", sorted(ZOO))
def test_module_and_graph_agree_on_the_multiply_accumulates(name, tmp_path):
    data = TEXT if name in TEXTS else {"input_shape": SHAPES.get(name, CIFAR), "classes": 10}
    torch.manual_seed(0)
    model = build(name, data).eval()
    specs = inputs_of(model, specs_of(data))
    ones = {one.name: torch.ones((1, *one.shape[1:]), dtype=getattr(torch, one.dtype)) for one in specs}
    export(model, specs, tmp_path / "model.onnx")
    example = ones[INPUT] if ones.keys() == {INPUT} else ones
    counted = Bill(macs(Trial.of(model, example))).total
    assert counted == cost.macs(read_onnx(tmp_path / "model.onnx")) > 0
