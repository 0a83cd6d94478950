from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgeprune.errors import ConfigError
from edgeprune.prune.agent.walk import Walk
from edgeprune.prune.dynamic.dynamic_pruner import DynamicPruner
from edgeprune.prune.dynamic.updates import Updates
from edgeprune.prune.loss_contribution import LossPruner
from edgeprune.prune.schedule import Schedule
from edgeprune.prune.structured import StructuredPruner
from edgeprune.prune.surgery import Cut, SurgeryLog, replay

OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, amsgrad=True),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.01),
    "two rates": lambda parameters: torch.optim.AdamW(
        [{"params": parameters[:3]}, {"params": parameters[3:], "lr": 0.1}]
    ),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


def train(model, optimizer, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x, y = torch.randn(16, 1, 8, 8, generator=generator), torch.randint(0, 5, (16,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_moments_are_those_of_the_channels_that_stay(make):
    model = network()
    optimizer = make(list(model.parameters()))
    train(model, optimizer, 3, seed=0)
    before = [copy.deepcopy(optimizer.state[one]) for one in model.parameters()]
    removed = (1, 4)
    features = tuple(36 * channel + i for channel in removed for i in range(36))
    log = SurgeryLog((Cut("0", "out", removed), Cut("1", "out", removed), Cut("4", "in", features)))
    replay(model, log, optimizer)
    kept = [0, 2, 3, 5, 6, 7]
    in_optimizer = [one for group in optimizer.param_groups for one in group["params"]]
    assert {id(one) for one in in_optimizer} == {id(one) for one in model.parameters()}
    assert set(optimizer.state) == set(in_optimizer)
    for number, (parameter, old) in enumerate(zip(model.parameters(), before, strict=True)):
        for name, moment in optimizer.state[parameter].items():
            if torch.is_tensor(moment) and moment.ndim:
                assert moment.shape == parameter.shape
                if number < 4:
                    assert torch.equal(moment, old[name][kept])
            else:
                assert moment == old[name]  # the count of steps
    train(model, optimizer, 2, seed=1)


def test_training_goes_on_as_it_would_with_the_channels_at_zero():
    """With SGD a channel whose readers and makers are zero gets no gradient: cut or not, the rest moves alike."""
    cut = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
    masked = copy.deepcopy(cut)
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9) for one in (cut, masked)]
    generator = torch.Generator().manual_seed(0)

    def steps(count):
        for _ in range(count):
            x, y = torch.randn(16, 6, generator=generator), torch.randint(0, 5, (16,), generator=generator)
            for model, optimizer in zip((cut, masked), optimizers, strict=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()

    steps(3)
    gone, kept = [2, 5], [0, 1, 3, 4, 6, 7]
    replay(cut, SurgeryLog((Cut("0", "out", (2, 5)), Cut("2", "in", (2, 5)))), optimizers[0])
    for parameter, rows in (
        (masked[0].weight, (gone,)),
        (masked[0].bias, (gone,)),
        (masked[2].weight, (slice(None), gone)),
    ):
        parameter.data[rows] = 0
        optimizers[1].state[parameter]["momentum_buffer"][rows] = 0
    steps(5)
    torch.testing.assert_close(cut[0].weight, masked[0].weight[kept])
    torch.testing.assert_close(cut[2].weight, masked[2].weight[:, kept])


def test_a_removed_block_is_forgotten():
    from edgeprune.models.zoo import build

    torch.manual_seed(0)
    model = build("resnet20", {"input_shape": (3, 8, 8), "classes": 5})
    optimizer = torch.optim.Adam(model.parameters())
    pruner = StructuredPruner(model, torch.zeros(1, 3, 8, 8), optimizer=optimizer, keep=0.8, remove="blocks")
    nn.functional.cross_entropy(model(torch.randn(4, 3, 8, 8)), torch.arange(4)).backward()
    optimizer.step()
    assert pruner.step()
    left = {id(one) for one in model.parameters()}
    assert {id(one) for group in optimizer.param_groups for one in group["params"]} == left
    assert {id(one) for one in optimizer.state} == left


@pytest.mark.parametrize("cut", ["out", "in"])
def test_moments_of_rows_and_columns_are_cut_and_training_goes_on(cut):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5))
    optimizer = torch.optim.Adafactor(model.parameters())
    train(model, optimizer, 2, seed=0)
    before = copy.deepcopy(optimizer.state[model[2].weight])
    if cut == "out":
        features = tuple(16 * channel + i for channel in (1, 4) for i in range(16))
        replay(model, SurgeryLog((Cut("2", "out", (1, 4)), Cut("5", "in", features))), optimizer)
        kept = ([0, 2, 3, 5],)
    else:
        replay(model, SurgeryLog((Cut("0", "out", (1, 4)), Cut("2", "in", (1, 4)))), optimizer)
        kept = (slice(None), [0, 2, 3, 5, 6, 7])
    after = optimizer.state[model[2].weight]
    for name in ("row_var", "col_var"):
        assert torch.equal(after[name], before[name][kept])
    assert after["step"] == before["step"]
    train(model, optimizer, 2, seed=1)


def test_what_is_kept_in_another_shape_begins_anew():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train(model, optimizer, 1, seed=0)
    optimizer.state[model[0].weight]["sketch"] = torch.zeros(3)
    replay(model, SurgeryLog((Cut("0", "out", (1,)), Cut("1", "out", (1,)))), optimizer)
    assert model[0].weight not in optimizer.state
    assert optimizer.state[model[1].weight]["momentum_buffer"].shape == (7,)


def pruners(model, optimizer):
    x = torch.zeros(1, 1, 8, 8)
    yield lambda: StructuredPruner(model, x, optimizer=optimizer)
    yield lambda: LossPruner(model, x, optimizer, schedule=Schedule("linear", 0, 4))
    yield lambda: DynamicPruner(model, x, optimizer, updates=Updates("fine", 10, 2), sparsity=0.5)
    yield lambda: Walk(model, x, optimizer, every=1, decisions=1)


@pytest.mark.parametrize("number", range(4))
def test_an_optimizer_that_cannot_train_the_cut_network_is_refused(number):
    model = network()
    for optimizer, message in (
        (torch.optim.SGD(network().parameters(), lr=0.1), "SGD holds no parameter of this Sequential"),
        (torch.optim.LBFGS(model.parameters()), "LBFGS keeps .*: use Adam, AdamW or SGD"),
    ):
        with pytest.raises(ConfigError, match=message):
            list(pruners(model, optimizer))[number]()


def test_an_optimizer_of_some_of_the_parameters_will_do():
    model = network()
    optimizer = torch.optim.SGD(model[4].parameters(), lr=0.1)
    assert StructuredPruner(model, torch.zeros(1, 1, 8, 8), optimizer=optimizer).step()
    train(model, optimizer, 1, seed=0)
