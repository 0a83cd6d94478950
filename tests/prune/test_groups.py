from __future__ import annotations

import pytest
import torch
import torch_pruning
from torch import nn
from torch.nn import functional as F

from edgeprune.errors import ConfigError, ModelError
from edgeprune.models.zoo import build
from edgeprune.prune.groups import Trial, find_groups, merged
from edgeprune.prune.structured import StructuredPruner
from edgeprune.prune.surgery import mask, replay

X = torch.zeros(1, 3, 8, 8)
TEXT = {"length": 6, "vocabulary": 20, "classes": 2, "task": "classification"}


class PaddedShortcut(nn.Module):
    """8 channels, padded to 16 for a shortcut, as option A of the ResNet paper does."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 24, 3, padding=1)
        self.outer = nn.Conv2d(24, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.outer(torch.relu(self.inner(x))) + F.pad(x, (0, 0, 0, 0, 4, 4)))
        return self.head(x).mean((2, 3))


class Spatial(nn.Module):
    """Pads height and width, which moves no channel."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 3)

    def forward(self, x):
        return self.last(F.pad(torch.relu(self.first(x)), (1, 1, 1, 1))).mean((2, 3))


class Sliced(nn.Module):
    """The second half of the channels is added to the first."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 5, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.last(x[:, :4] + x[:, 4:]).mean((2, 3))


class Joined(nn.Module):
    """Two branches concatenated, one through a depthwise convolution; then a convolution, or a flatten."""

    def __init__(self, flat=False):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 4, 3)
        self.depthwise, self.norm = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6)
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(360, 5)) if flat else nn.Conv2d(10, 5, 6)

    def forward(self, x):
        left = torch.sigmoid(self.norm(self.depthwise(self.left(x))))
        return self.last(torch.cat([left, torch.relu(self.right(x))], 1)).flatten(1)


class Gained(nn.Module):
    """A parameter that belongs to no layer."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 3)
        self.gain = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x):
        return self.last(self.first(x) * self.gain).mean((2, 3))


class FixedView(nn.Module):
    """The number of channels is written into the code."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 5)

    def forward(self, x):
        return self.last(self.first(x).view(-1, 8 * 36))


def whole(model, x=X):
    """Why each layer's output channels stay; empty where they may be cut."""
    groups = find_groups(Trial.of(model, x))
    return {name: group.whole for group in groups for axis, name in group.sides if axis == "out"}


def test_a_shortcut_that_pads_channels_would_be_pruned_to_wrong_numbers_without_the_trial():
    torch.manual_seed(0)
    model, x = PaddedShortcut(), torch.randn(1, 3, 8, 8)
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=(x,))
    group = graph.get_pruning_group(model.stem, torch_pruning.prune_conv_out_channels, idxs=[1, 2, 6])
    with torch.no_grad():
        for layer, axis in ((model.stem, 0), (model.outer, 0), (model.inner, 1), (model.head, 1)):
            layer.weight.index_fill_(axis, torch.tensor([1, 2, 6]), 0)
            if axis == 0:
                layer.bias[[1, 2, 6]] = 0
        before = model(x)
        group.prune()
        after = model(x)
    assert after.shape == before.shape  # valid shapes,
    assert not torch.allclose(after, before, rtol=0.05)  # wrong numbers


def test_a_shortcut_that_pads_channels_stays_whole_and_the_inner_width_may_be_cut():
    found = whole(PaddedShortcut())
    assert found["inner"] == ""
    assert "pads its channels with zeros" in found["stem"]
    assert "pads its channels with zeros" in found["outer"]


@pytest.mark.parametrize("name", ["resnet20", "resnet32"])
def test_only_the_inner_widths_of_option_a_blocks_may_be_cut(name):
    found = whole(build(name, {"input_shape": (3, 32, 32), "classes": 10}), torch.zeros(1, 3, 32, 32))
    free = {layer for layer, why in found.items() if not why}
    inner = {layer for layer in found if layer.startswith("layer") and layer.endswith(("conv1", "bn1"))}
    assert free == inner
    assert "pads its channels" in found["conv1"]


def test_padding_height_and_width_keeps_nothing_whole():
    assert whole(Spatial())["first"] == ""


@pytest.mark.parametrize(
    ("model", "layer", "why"),
    [
        (Gained(), "first", "a parameter that belongs to no layer"),
        (FixedView(), "first", "cutting it fails"),
        (
            Joined(flat=True),
            "left",
            "cutting it fails",
        ),  # Torch-Pruning cannot follow a concatenation through a flatten
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 5, 6), nn.Flatten()), "0", "GroupNorm"),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(128, 2)), "0", "gro"),
        (nn.Sequential(nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(36, 5)), "0", "it has one channel"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), "1", "it is the output"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_cut_stays_whole_and_says_why(model, layer, why):
    assert why in whole(model)[layer]


def test_branches_that_are_concatenated_are_cut_apart_and_together():
    model = Joined().eval()
    found = whole(model)
    assert {name for name, why in found.items() if not why} == {"left", "depthwise", "norm", "right"}
    x = torch.randn(1, 3, 8, 8)
    cuts = [cut for group in find_groups(Trial.of(model, X)) if not group.whole for cut in group.cuts([1, 3])]
    log = merged(cuts)
    masked, cut = Joined().eval(), Joined().eval()
    for copy in (masked, cut):
        copy.load_state_dict(model.state_dict())
    mask(masked, log)
    replay(cut, log)
    assert cut.depthwise.groups == 4
    assert cut.last.in_channels == 6
    torch.testing.assert_close(cut(x), masked(x))


def test_the_network_itself_is_left_as_it_was():
    model = PaddedShortcut().train().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    find_groups(Trial.of(model, X))
    assert model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class TextCnn(nn.Module):
    """Tokens and a mask; convolutions over time."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.first, self.second = nn.Conv1d(8, 12, 3, padding=1), nn.Conv1d(12, 6, 3, padding=1)
        self.last = nn.Linear(6, 2)

    def forward(self, attention_mask, input_ids):
        x = torch.relu(self.first(self.embedding(input_ids).transpose(1, 2)))
        x = torch.relu(self.second(x)) * attention_mask.unsqueeze(1)
        return {"scores": self.last(x.sum(2))}


def test_a_network_with_several_inputs_is_cut_where_it_computes_the_same():
    example = {"attention_mask": torch.ones(1, 5, dtype=torch.int64), "input_ids": torch.arange(5).unsqueeze(0)}
    model = TextCnn().eval()
    found = whole(model, example)
    assert found["first"] == found["second"] == ""
    assert found["last"] == "it is the output"
    pruner = StructuredPruner(model, example, keep=0.5)
    pruner.step()
    assert pruner.report.macs_before == 5 * (8 * 12 * 3 + 12 * 6 * 3) + 6 * 2
    assert pruner.report.kept <= 0.5
    assert model(**example)["scores"].shape == (1, 2)


@pytest.mark.parametrize(
    ("model", "example", "layer"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 4)), torch.zeros(1, 2, 3), "1: LSTM"),
        (nn.TransformerEncoderLayer(8, 2), torch.zeros(1, 2, 8), "TransformerEncoderLayer: TransformerEncoderLayer"),
        (build("bilstm", TEXT), torch.zeros(1, 6, dtype=torch.int64), "forwards: LSTM"),
    ],
    ids=["layer", "attention", "bilstm"],
)
def test_recurrent_layers_and_attention_are_refused_in_one_line(model, example, layer):
    with pytest.raises(ConfigError, match=f"{layer} cannot be pruned yet.*--pruner none") as caught:
        StructuredPruner(model, example, keep=0.5)
    assert "\n" not in str(caught.value)


def test_encoders_are_refused():
    pytest.importorskip("transformers")
    with pytest.raises(ConfigError, match="cannot be pruned yet"):
        StructuredPruner(build("bert-mini", TEXT), {}, keep=0.5)


def test_a_network_that_cannot_be_followed_is_refused_in_one_line():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(3, 2)

        def forward(self, x):
            raise KeyError("whatever\na user's module raises")

    with pytest.raises(ModelError, match=r"Odd: its channels cannot be followed .*--pruner none") as caught:
        find_groups(Trial.of(Odd(), torch.zeros(1, 3)))
    assert "\n" not in str(caught.value)
