from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.errors import ModelError
from edgeprune.models.zoo import build
from edgeprune.prune.structure import Structure
from edgeprune.prune.taylor import Taylor


class Gated(nn.Module):
    """A gate on each channel, behind the normalization as in the paper."""

    def __init__(self, gated):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 4, 3)
        self.gate = torch.ones(6, requires_grad=True) if gated else None

    def forward(self, x):
        x = self.norm(self.conv(x))
        if self.gate is not None:
            x = x * self.gate[:, None, None]
        return self.last(torch.relu(x)).mean((2, 3))


def test_the_importance_is_the_mean_square_of_the_gradient_of_a_gate():
    """Molchanov et al. 2019, equation 8, with the gates themselves as the reference."""
    model, reference = Gated(gated=False).eval(), Gated(gated=True).eval()
    structure, taylor = Structure(model, torch.zeros(1, 2, 8, 8)), Taylor()
    expected = torch.zeros(6)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        x, y = torch.randn(5, 2, 8, 8, generator=generator), torch.randint(0, 4, (5,), generator=generator)
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        taylor.observe(structure, "channels")
        reference.gate.grad = None
        nn.functional.cross_entropy(reference(x), y).backward()
        expected += reference.gate.grad**2 / 3
    (group,) = [number for number, one in enumerate(structure.groups) if not one.whole]
    torch.testing.assert_close(taylor.channels(structure, group).float(), expected, rtol=1e-4, atol=1e-9)


def test_the_importance_of_a_hidden_unit_counts_what_it_feeds_back():
    torch.manual_seed(0)

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.last = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x, gate=None):
            h, c, hidden = torch.zeros(len(x), 5), torch.zeros(len(x), 5), []
            if gate is None:
                return self.last(self.lstm(x)[0][:, -1])
            cell = nn.LSTMCell(3, 5)
            for name, parameter in self.lstm.named_parameters():
                getattr(cell, name.removesuffix("_l0")).data = parameter.data
            for step in x.unbind(1):
                h, c = cell(step, (h * gate, c))
                hidden.append(h)
            return self.last(h * gate)

    model = Reader()
    structure, taylor = Structure(model, torch.zeros(1, 4, 3)), Taylor()
    x, y = torch.randn(6, 4, 3), torch.randint(0, 2, (6,))
    nn.functional.cross_entropy(model(x), y).backward()
    taylor.observe(structure, "channels")
    gate = torch.ones(5, requires_grad=True)
    nn.functional.cross_entropy(model(x, gate), y).backward()
    (group,) = [number for number, one in enumerate(structure.groups) if ("out", "lstm") in one.sides]
    torch.testing.assert_close(taylor.channels(structure, group).float(), gate.grad**2, rtol=1e-3, atol=1e-8)


def test_the_importance_of_a_block_is_that_of_a_gate_on_its_branch():
    torch.manual_seed(0)
    model = build("resnet20", {"input_shape": (3, 8, 8), "classes": 5}).eval()
    structure, taylor = Structure(model, torch.zeros(1, 3, 8, 8)), Taylor()
    x, y = torch.randn(4, 3, 8, 8), torch.arange(4)
    nn.functional.cross_entropy(model(x), y).backward()
    taylor.observe(structure, "blocks")
    block = next(one for one in structure.blocks if one.name == "layer2.1")
    gate = torch.ones((), requires_grad=True)
    hook = model.layer2[1].bn2.register_forward_hook(lambda _, __, given: given * gate)
    nn.functional.cross_entropy(model(x), y).backward()
    hook.remove()
    assert taylor.block(structure, block) == pytest.approx(float(gate.grad) ** 2, rel=1e-3)


def test_without_gradients_it_says_what_to_do():
    structure = Structure(Gated(gated=False), torch.zeros(1, 2, 8, 8))
    with pytest.raises(ModelError, match=r"taylor: no gradients were seen .* observe\(\) after backward\(\)"):
        Taylor().channels(structure, 0)
