from __future__ import annotations

import pytest
import torch
import torch_pruning
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.prune import l1_unstructured

from edgeprune.errors import ModelError
from edgeprune.models.zoo import build
from edgeprune.prune.groups import find_groups
from edgeprune.prune.structured import StructuredPruner
from edgeprune.prune.surgery import mask, merged, replay
from edgeprune.prune.trial import Trial

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
    groups = find_groups(Trial.of(model, x)).found
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
    cuts = [cut for group in find_groups(Trial.of(model, X)).found if not group.whole for cut in group.cuts([1, 3])]
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


def of_text(name):
    return build(name, TEXT), {"input_ids": torch.arange(1, 7).unsqueeze(0)}


def test_the_hidden_units_of_each_direction_of_the_bilstm_may_be_cut_and_its_embedding():
    found = whole(*of_text("bilstm"))
    assert {name for name, why in found.items() if not why} == {"embedding", "forwards", "backwards"}


class Stacked(nn.Module):
    """Two bidirectional layers; the answer is read off the last states of both directions."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True)
        self.last = nn.Linear(16, 3)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return self.last(torch.cat([h[-2], h[-1]], 1))


def test_a_hidden_unit_of_both_directions_is_one():
    (group,) = [one for one in find_groups(Trial.of(Stacked(), torch.zeros(1, 5, 6))).found if not one.whole]
    assert group.channels == 8
    assert group.sides == {("out", "lstm"), ("in", "last")}
    assert [cut.removed for cut in group.cuts([2])] == [(2,), (2, 10)]


def test_a_convolution_with_groups_loses_the_same_position_of_each():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3, groups=4), nn.Flatten(), nn.Linear(192, 2))
    groups = {next(iter(group.sides)): group for group in find_groups(Trial.of(model, X)).found if not group.whole}
    before, behind = (next(one for side, one in groups.items() if one.channels == channels) for channels in (2, 3))
    assert next(cut for cut in before.cuts([1]) if cut.module == "0").removed == (1, 3, 5, 7)
    assert behind.whole == ""


@pytest.mark.parametrize("name", ["bert-mini", "distilbert"])
def test_heads_and_inner_widths_of_an_encoder_may_be_cut_but_not_what_is_normalized(name):
    transformers = pytest.importorskip("transformers")
    if name == "distilbert":
        config = transformers.DistilBertConfig(vocab_size=20, dim=32, n_heads=4, hidden_dim=64, n_layers=2)
        model = transformers.DistilBertForSequenceClassification(config)
    else:
        model = build(name, TEXT)
    ids = torch.arange(1, 7).unsqueeze(0)
    groups = find_groups(Trial.of(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})).found
    free = [group for group in groups if not group.whole]
    heads = [group for group in free if group.channels == 4]
    assert len(heads) == (2 if name == "distilbert" else 4)  # layers
    assert all(len(group.members) == 4 for group in heads)  # queries, keys, values, and what reads them
    inner = [group for group in free if group.channels == (64 if name == "distilbert" else 1024)]
    assert len(inner) == len(heads)
    assert any("LayerNorm cannot lose" in group.whole for group in groups)


class TwoWays(nn.Module):
    """Which of two layers runs depends on the numbers that come in; what follows does not."""

    def __init__(self):
        super().__init__()
        self.ways = nn.ModuleDict({"one": nn.Conv2d(8, 8, 1), "other": nn.Conv2d(8, 8, 3, padding=1)})
        self.first, self.after, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 1), nn.Conv2d(12, 5, 1)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = self.ways["one" if x.mean() > -1 else "other"](x)
        return self.last(torch.relu(self.after(x))).mean((2, 3))


def test_around_control_flow_channels_stay_and_elsewhere_they_may_be_cut():
    found = whole(TwoWays())
    assert found["after"] == ""
    assert found["first"] == found["ways.one"]
    assert "does not run all of its layers on every input" in found["first"]


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.third, self.last = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.relu(self.third(torch.relu(self.second(torch.relu(self.first(x)))))))


def test_layers_that_share_their_weights_stay_whole_and_others_may_be_cut():
    found = whole(Tied(), torch.zeros(1, 8))
    assert found["first"] == found["second"] == "first and second share their weights"
    assert found["third"] == ""


class Detached(nn.Module):
    """Its parts can be followed, but nothing can be followed through it as a whole."""

    def __init__(self):
        super().__init__()
        self.part = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.part(x).detach()


def test_a_part_that_cannot_be_followed_is_named_and_the_parts_inside_are_followed():
    found = find_groups(Trial.of(Detached(), torch.zeros(1, 4)))
    assert found.unfollowed[0].startswith("Detached: cannot be followed as a whole (ValueError: gives nothing")
    assert [(group.channels, group.whole) for group in found.found if not group.whole] == [(8, "")]


def test_a_network_that_fails_is_refused_in_one_line():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(3, 2)

        def forward(self, x):
            raise KeyError("whatever\na user's module raises")

    with pytest.raises(ModelError, match=r"Odd: fails on one sample .*--pruner none") as caught:
        find_groups(Trial.of(Odd(), torch.zeros(1, 3)))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    "made",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        lambda layer: l1_unstructured(layer, "weight", 0.5),
    ],
)
def test_a_layer_whose_weight_is_computed_stays_whole_and_training_goes_on(made):
    torch.manual_seed(0)
    model = nn.Sequential(
        made(nn.Conv2d(3, 8, 3)), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5)
    )
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(2, 3, 8, 8)

    def step():
        model(x).square().sum().backward()
        optimizer.step()

    step()
    pruner = StructuredPruner(model, X, optimizer=optimizer, keep=0.6)
    assert pruner.structure.whole == ("0: weight of 0 is computed from other parameters (a parametrization)",)
    pruner.step()
    assert model[2].out_channels < 8
    optimizer.zero_grad()
    step()
    assert {id(one) for group in optimizer.param_groups for one in group["params"]} == set(map(id, model.parameters()))


class EverySecond(nn.Module):
    """Reads every second channel."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 16, 3), nn.Conv2d(8, 12, 3), nn.Conv2d(12, 5, 4)

    def forward(self, x):
        return self.last(self.second(self.first(x)[:, ::2]).relu()).flatten(1)


def test_a_group_that_passes_a_trial_by_chance_does_not_pass_others():
    found = whole(EverySecond())
    assert found["first"]
    assert found["second"] == ""
