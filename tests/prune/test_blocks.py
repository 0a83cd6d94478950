from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgeprune.models.zoo import build
from edgeprune.prune.blocks import find_blocks
from edgeprune.prune.surgery import SurgeryLog, replay
from edgeprune.prune.trial import Trial

IMAGES = {"input_shape": (3, 32, 32), "classes": 10}


def blocks(model, example):
    return {block.name: block for block in find_blocks(Trial.of(model, example))}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("resnet18", {"layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"}),
        ("mobilenetv2", {f"features.{i}" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)}),
        ("cnn", set()),
    ],
)
def test_blocks_with_a_shortcut_that_changes_nothing_can_be_removed(name, found):
    model = build(name, IMAGES)
    assert {one for one, block in blocks(model, torch.zeros(1, 3, 32, 32)).items() if not block.whole} == found


def test_a_branch_is_silenced_where_it_ends():
    model = build("mobilenetv2", IMAGES)
    assert blocks(model, torch.zeros(1, 3, 32, 32))["features.3"].ends == (
        "features.3.conv.3.weight",
        "features.3.conv.3.bias",
    )


class PreNormalized(nn.Module):
    """Two residuals, one after the other, as in a transformer that normalizes first."""

    def __init__(self):
        super().__init__()
        self.norm1, self.mix = nn.LayerNorm(8), nn.Linear(8, 8)
        self.norm2, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        x = x + self.mix(self.norm1(x))
        return x + self.narrow(torch.relu(self.wide(self.norm2(x))))


def test_a_block_with_several_branches_is_silenced_as_a_whole():
    model = nn.Sequential(nn.Linear(4, 8), PreNormalized(), PreNormalized(), nn.Linear(8, 3))
    found = blocks(model, torch.zeros(1, 5, 4))
    assert found.keys() == {"1", "2"}
    assert all(block.residual and not block.whole for block in found.values())


@pytest.mark.parametrize(("inputs", "removable"), [(6, "12"), (16, "012")])
def test_layers_of_a_stacked_lstm_can_be_removed_where_what_they_are_given_fits_the_next(inputs, removable):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(inputs, 8, 3, batch_first=True, bidirectional=True)

        def forward(self, x):
            return self.lstm(x)[0].amax(1)

    torch.manual_seed(0)
    model = nn.Sequential(Reader(), nn.Linear(16, 2)).eval()
    x = torch.randn(2, 5, inputs)
    assert {name for name, block in blocks(model, x[:1]).items() if not block.whole} == {
        f"0.lstm:{one}" for one in removable
    }
    cut = copy.deepcopy(model)
    replay(cut, SurgeryLog(blocks=("0.lstm:1",)))
    first, last = (nn.LSTM(size, 8, batch_first=True, bidirectional=True) for size in (inputs, 16))
    for layer, number in ((first, 0), (last, 2)):
        layer.load_state_dict(
            {
                name.replace(f"l{number}", "l0"): one
                for name, one in model[0].lstm.state_dict().items()
                if f"l{number}" in name
            }
        )
    torch.testing.assert_close(cut[0](x), last(first(x)[0])[0].amax(1))


@pytest.mark.parametrize("name", ["bert-mini", "distilbert"])
def test_layers_of_an_encoder_can_be_removed(name):
    transformers = pytest.importorskip("transformers")
    if name == "bert-mini":
        model = build(name, {"length": 6, "vocabulary": 20, "classes": 2, "task": "classification"})
    else:
        config = transformers.DistilBertConfig(vocab_size=20, dim=16, n_heads=2, hidden_dim=32, n_layers=4)
        model = transformers.DistilBertForSequenceClassification(config)
    ids = torch.arange(1, 7).unsqueeze(0)
    found = blocks(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert len(found) == 4
    assert all(not block.residual and not block.whole for block in found.values())


def test_a_block_whose_weights_another_uses_stays():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), PreNormalized(), PreNormalized(), nn.Linear(8, 3))
    model[2].mix.weight = model[1].mix.weight
    found = blocks(model, torch.zeros(1, 5, 4))
    assert "1.mix.weight is shared with another layer" in found["1"].whole
    assert "is shared with another layer" in found["2"].whole


def test_the_network_itself_is_left_as_it_was():
    model = build("resnet20", IMAGES).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    find_blocks(Trial.of(model, torch.zeros(1, 3, 32, 32)))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
