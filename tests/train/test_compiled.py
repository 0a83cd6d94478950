from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.data.datasets import describe, read
from edgeprune.errors import MissingError
from edgeprune.prune.schedule import Schedule
from edgeprune.prune.structured import StructuredPruner
from edgeprune.recipe import Rows, TrainPart
from edgeprune.train.compiled import Compiled
from edgeprune.train.fit import fit

INFO = describe("digits")
FEW = read(Rows(source="digits:all", stop=150), INFO)
COMPILED = TrainPart(batch=32, compile=True)


def network(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(288, 10))


def trained(part, model, *, epochs=4, **how):
    for _ in fit(model, FEW, INFO.preprocess, part, epochs=epochs, seed=3, **how):
        pass
    return model


def test_a_compiled_training_follows_the_other():
    whole, other = (trained(part, network()) for part in (COMPILED, TrainPart(batch=32)))
    for a, b in zip(whole.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.system  # the C++ compiler takes its time
def test_so_does_one_with_a_teacher():
    teacher = trained(TrainPart(batch=32), network())
    parts = (TrainPart(batch=32, compile=on, distill=0.9) for on in (True, False))
    whole, other = (trained(part, network(), epochs=2, teacher=teacher) for part in parts)
    for a, b in zip(whole.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.system  # the C++ compiler takes its time
def test_an_interrupted_one_ends_with_the_same_weights(tmp_path):
    checkpoint = tmp_path / "state.pt"
    whole = trained(COMPILED, network(0.3))
    for epoch in fit(network(0.3), FEW, INFO.preprocess, COMPILED, epochs=4, seed=3, checkpoint=checkpoint):
        if epoch.index == 1:
            break
    rest = network(0.3)
    left = [one.index for one in fit(rest, FEW, INFO.preprocess, COMPILED, epochs=4, seed=3, checkpoint=checkpoint)]
    assert left == [2, 3]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), rest.parameters(), strict=True))


@pytest.mark.system  # the C++ compiler takes its time
def test_what_changes_its_shapes_is_not_compiled_until_they_have_stayed_for_an_epoch(tmp_path):
    model = network()
    seen = []

    def pruner(model, optimizer, steps):
        example = torch.zeros(1, 1, 8, 8)
        schedule = Schedule("linear", start=1, steps=6, every=3)  # the first two of the epochs, of five steps each
        return StructuredPruner(model, example, "magnitude", optimizer=optimizer, keep=0.5, align=1, schedule=schedule)

    checkpoint = tmp_path / "state.pt"
    for _ in fit(model, FEW, INFO.preprocess, COMPILED, epochs=4, seed=3, pruner=pruner, checkpoint=checkpoint):
        seen.append(torch.load(checkpoint, weights_only=True)["settled"])
    assert model[0].out_channels < 8
    assert seen == [False, False, True, True]


def test_the_module_to_call_is_the_plain_one_after_a_change():
    model = network()
    compiled = Compiled(model, settled=True)
    assert compiled.module is not model
    model[0] = nn.Conv2d(1, 4, 3)
    model[4] = nn.Linear(144, 10)
    assert compiled.module is model
    compiled.end_epoch()
    compiled.begin_epoch()
    assert compiled.module is model
    compiled.end_epoch()
    compiled.begin_epoch()
    assert compiled.module is not model


def test_without_a_compiler_it_says_what_to_do(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingError, match=r"no-such-compiler: install g\+\+, set CXX, or compile: false"):
        trained(COMPILED, network())
