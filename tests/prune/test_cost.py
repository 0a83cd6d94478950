from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.export.to_onnx import export
from edgeprune.graph import cost
from edgeprune.graph.load import read_onnx
from edgeprune.models.transformer import bert
from edgeprune.models.zoo import build
from edgeprune.prune.cost import Bill, macs, weights
from edgeprune.prune.structured import StructuredPruner
from edgeprune.prune.trial import Trial
from edgeprune.tensor import TensorSpec

TEXT = {"length": 8, "vocabulary": 40, "classes": 2, "task": "classification"}
SHAPES = {"cnn": 8, "lenet5": 28, "resnet20": 32}
BLOCKS = ("resnet20", "bert", "distilbert")
TEXTS = ("lstm", "bilstm", "bert")


def network(name):
    """A model of the zoo, or one that is made of the same parts but smaller, with one sample of what it takes."""
    torch.manual_seed(0)
    if name in SHAPES:
        shape = (3, SHAPES[name], SHAPES[name])
        return build(name, {"input_shape": shape, "classes": 10}).eval(), {"x": torch.zeros(1, *shape)}
    ids = torch.arange(1, 9).unsqueeze(0)
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if name == "distilbert":
        transformers = pytest.importorskip("transformers")
        config = transformers.DistilBertConfig(vocab_size=40, dim=32, n_heads=4, hidden_dim=64, n_layers=3)
        config._attn_implementation = "eager"
        return transformers.DistilBertForSequenceClassification(config).eval(), example
    if name == "bert":
        pytest.importorskip("transformers")
        return bert(8, 40, 2, "classification", layers=3, width=32, heads=4).eval(), example
    return build(name, TEXT).eval(), {"input_ids": ids}


def of_graph(model, example, path):
    """Multiply-accumulates of the exported file."""
    specs = [TensorSpec(name, str(one.dtype)[6:], ("batch", *one.shape[1:])) for name, one in example.items()]
    export(model, specs, path)
    return cost.macs(read_onnx(path))


@pytest.mark.parametrize("name", [*SHAPES, *TEXTS, pytest.param("distilbert", marks=pytest.mark.system)])
def test_module_and_graph_agree_on_the_multiply_accumulates_of_a_cut_network(name, tmp_path):
    """Of channels and, where there are any, blocks; tests/contracts/test_zoo.py does the other models for images."""
    model, example = network(name)
    before = Bill(macs(Trial.of(model, example))).total
    pruner = StructuredPruner(model, example, "uniform", keep=0.6)
    pruner.step()
    assert pruner.report.macs_before == before
    if name in BLOCKS:
        pruner = StructuredPruner(model, example, "uniform", keep=0.75, remove="blocks")
        pruner.step()
        assert pruner.report.blocks
    assert pruner.report.macs_after == of_graph(model, example, tmp_path / "cut.onnx") <= 0.6 * before


def test_layers_of_a_stacked_lstm_are_counted_by_hand():
    model = nn.Sequential(nn.Linear(3, 6), nn.LSTM(6, 4, 3, batch_first=True, bidirectional=True))

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.read, self.last = model, nn.Linear(8, 2)

        def forward(self, x):
            return self.last(self.read(x)[0].amax(1))

    bill = Bill(macs(Trial.of(Reader(), torch.zeros(1, 5, 3))))
    first, other = 2 * 16 * (6 + 4), 2 * 16 * (8 + 4)
    assert bill.total == 5 * (3 * 6 + first + 2 * other) + 8 * 2
    assert bill.saves({}, "read.1:2") == 5 * other
    one_unit = 5 * 2 * 4 * (4 * (6 + 4 + 2 * 12) - 3 * (6 + 3 + 2 * 9)) + 0
    assert bill.saves({("read.1", "out"): 1}) == one_unit
    assert bill.total == 5 * (3 * 6 + first + 2 * other) + 8 * 2  # nothing was taken off


def test_weights_are_counted_once_however_often_they_are_used():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3), nn.Flatten(), nn.Linear(18, 2))
    bill = Bill(weights(Trial.of(model, torch.zeros(1, 6, dtype=torch.int64))))
    assert bill.total == 10 * 4 + 4 * 3 + 18 * 2
