"""Removing computes what setting to zero computes: on the given networks, and on random ones."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from edgeprune.models.zoo import build, load_weights
from edgeprune.prune.structure import Structure
from edgeprune.prune.surgery import mask, merged, replay
from edgeprune.prune.trial import silence

GIVEN = ("resnet20", "resnet32", "resnet44", "resnet56")
CIFAR = {"input_shape": (3, 32, 32), "classes": 10}
WIDTH = 12


class Split(nn.Module):
    """The halves of its channels go different ways, and come together again."""

    def __init__(self, chunked):
        super().__init__()
        self.left, self.right = nn.Conv2d(WIDTH // 2, 8, 1), nn.Conv2d(WIDTH // 2, 4, 3, padding=1)
        self.chunked = chunked

    def forward(self, x):
        a, b = x.chunk(2, 1) if self.chunked else x.split([WIDTH // 2, WIDTH // 2], 1)
        return torch.cat([torch.relu(self.left(a)), torch.relu(self.right(b))], 1)


class Joined(nn.Module):
    """What comes in beside what a branch makes of it, then narrowed."""

    def __init__(self):
        super().__init__()
        self.branch, self.narrow = nn.Conv2d(WIDTH, 6, 1), nn.Conv2d(WIDTH + 6, WIDTH, 1)

    def forward(self, x):
        return torch.relu(self.narrow(torch.cat([x, torch.sigmoid(self.branch(x))], 1)))


class Residual(nn.Module):
    """A block whose shortcut may pad its channels, as option A of the ResNet paper does."""

    def __init__(self, padded):
        super().__init__()
        narrow = WIDTH - 4 if padded else WIDTH
        self.before = nn.Conv2d(WIDTH, narrow, 1)
        self.inner, self.norm = nn.Conv2d(narrow, 10, 3, padding=1, bias=False), nn.BatchNorm2d(10)
        self.outer = nn.Conv2d(10, WIDTH, 3, padding=1)
        self.pad = (0, 0, 0, 0, 2, 2) if padded else (0, 0)

    def forward(self, x):
        x = torch.relu(self.before(x))
        return torch.relu(self.outer(torch.relu(self.norm(self.inner(x)))) + F.pad(x, self.pad))


class Twice(nn.Module):
    """One layer, used twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x):
        return torch.tanh(self.conv(torch.tanh(self.conv(x))))


class Reading(nn.Module):
    """A recurrent layer that reads the rows of what comes in, in both directions."""

    def __init__(self, kind, layers=1):
        super().__init__()
        self.reader = kind(WIDTH, 6, layers, batch_first=True, bidirectional=True)
        self.out = nn.Linear(12, WIDTH)

    def forward(self, x):
        rows, _ = self.reader(x.mean(3).transpose(1, 2))
        return self.out(rows).transpose(1, 2).unsqueeze(3)


PARTS = {
    "pad": lambda: nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU()),
    "split": lambda: Split(chunked=False),
    "chunk": lambda: Split(chunked=True),
    "concat": Joined,
    "residual": lambda: Residual(padded=False),
    "padded shortcut": lambda: Residual(padded=True),
    "depthwise": lambda: nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH), nn.PReLU(WIDTH)),
    "grouped": lambda: nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=3), nn.BatchNorm2d(WIDTH)),
    "shared": Twice,
    "bilstm": lambda: Reading(nn.LSTM),
    "two layers": lambda: Reading(nn.LSTM, 2),
    "gru": lambda: Reading(nn.GRU),
    "rnn": lambda: Reading(nn.RNN),
}
"""Each maps [N, WIDTH, H, W] to [N, WIDTH, H', W']."""


class Random(nn.Module):
    """Some parts, one after the other, with a flatten into dense layers behind, or a mean."""

    def __init__(self, names, *, flat):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.parts = nn.Sequential(*(PARTS[name]() for name in names))
        with torch.no_grad():
            numbers = self._features(torch.zeros(2, 3, 6, 6), flat=True).shape[1]
        self.flat = flat
        self.dense, self.last = nn.Linear(numbers if flat else WIDTH, 10), nn.Linear(10, 4)

    def _features(self, x, *, flat):
        x = self.parts(torch.relu(self.stem(x)))
        return x.flatten(1) if flat else x.mean((2, 3))

    def forward(self, x):
        return self.last(torch.relu(self.dense(self._features(x, flat=self.flat))))


def as_trained(model):
    """In float64; no bias, scale, mean or variance is zero or one."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                tensor.data.uniform_(0.2, 1.5, generator=generator)
    return model.double().eval()


def check(data, structure, model, x):
    """Draws channels to remove, and compares; how many there were."""
    cuts = []
    for number, group in enumerate(structure.groups):
        if not group.whole:
            drawn = data.draw(
                st.sets(st.integers(0, group.channels - 1), max_size=group.channels - 1), label=str(number)
            )
            cuts += group.cuts(drawn)
    log = merged(cuts)
    masked, cut = copy.deepcopy(model), copy.deepcopy(model)
    mask(masked, log)
    replay(cut, log)
    with torch.no_grad():
        torch.testing.assert_close(cut(x), masked(x), rtol=1e-9, atol=1e-9)
    return len(log.cuts)


@pytest.mark.parametrize("name", GIVEN)
def test_random_channels_of_every_given_resnet(name, shared_data):
    model = build(name, CIFAR)
    load_weights(model, Path(shared_data) / ".." / "models" / "resnet_cifar10" / f"{name}.safetensors")
    structure = Structure(model, torch.zeros(1, 3, 32, 32))
    free = [group for group in structure.groups if not group.whole]
    assert len(free) == sum(len(stage) for stage in (model.layer1, model.layer2, model.layer3))
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    dense = copy.deepcopy(model).double().eval()

    @settings(max_examples=3, deadline=None, derandomize=True, database=None)
    @given(data=st.data())
    def same(data):
        check(data, structure, dense, x)

    same()


@pytest.mark.parametrize("name", GIVEN)
def test_every_block_of_every_given_resnet_that_keeps_its_shape(name, shared_data):
    model = build(name, CIFAR)
    load_weights(model, Path(shared_data) / ".." / "models" / "resnet_cifar10" / f"{name}.safetensors")
    structure = Structure(model, torch.zeros(1, 3, 32, 32))
    blocks = {block.name: block for block in structure.blocks if not block.whole}
    stages = {"layer1": 0, "layer2": 1, "layer3": 1}  # the first of a stage halves the image
    assert blocks.keys() == {
        f"{stage}.{i}" for stage, first in stages.items() for i in range(first, len(model.get_submodule(stage)))
    }
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    some = sorted(blocks)[::2]
    silent, cut = copy.deepcopy(model).eval(), copy.deepcopy(model).eval()
    silence(silent, [end for block in some for end in blocks[block].ends])
    replay(cut, merged((), some))
    with torch.no_grad():
        torch.testing.assert_close(cut(x), silent(x), rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(names=st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=3), flat=st.booleans(), data=st.data())
def test_random_channels_of_random_networks(names, flat, data):
    torch.manual_seed(0)
    model = Random(names, flat=flat)
    structure = Structure(model, torch.zeros(1, 3, 6, 6))
    x = torch.randn(3, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    check(data, structure, as_trained(copy.deepcopy(model)), x)


@pytest.mark.parametrize("name", PARTS)
def test_something_of_every_kind_of_network_can_be_removed(name):
    """Else the test above would show nothing."""
    torch.manual_seed(0)
    structure = Structure(Random([name], flat=False), torch.zeros(1, 3, 6, 6))
    free = {module for group in structure.groups if not group.whole for _, module in group.sides}
    inside = {one for one in free if one.startswith("parts.")}
    assert inside, {group.whole for group in structure.groups}
