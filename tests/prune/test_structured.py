from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune.errors import ConfigError, ModelError, OutOfReachError
from edgeprune.models.zoo import build
from edgeprune.prune import CRITERIA
from edgeprune.prune.agent.walk import Walk
from edgeprune.prune.cost import Price
from edgeprune.prune.schedule import Schedule
from edgeprune.prune.structured import StructuredPruner
from edgeprune.prune.surgery import Skip, merged, reload, replay, save

CASES = {"cnn": (1, 8, 8), "resnet20": (3, 32, 32)}


def pruned(name="cnn", *, keep=0.5, align=1, seed=0, criterion="magnitude", **how):
    torch.manual_seed(seed)
    model = build(name, {"input_shape": CASES[name], "classes": 10})
    pruner = StructuredPruner(model, torch.zeros(1, *CASES[name]), criterion, keep=keep, align=align, **how)
    pruner.step()
    return model, pruner


def widths(pruner):
    return {layer.name: (layer.before, layer.after) for layer in pruner.report.layers}


def cnn_macs(conv1, conv2, dense1):
    """Of the CNN on 8x8 images, by hand."""
    return 64 * 9 * conv1 + 16 * 9 * conv1 * conv2 + 4 * conv2 * dense1 + dense1 * 10


def test_macs_are_counted_as_by_hand_before_and_after():
    _, pruner = pruned()
    report = pruner.report
    after = [layer.after for layer in report.layers]
    assert report.macs_before == cnn_macs(32, 64, 128) == 347_392
    assert report.macs_after == cnn_macs(*after[:3])


@pytest.mark.parametrize(
    ("name", "keep"), [("cnn", 0.9), ("cnn", 0.5), ("cnn", 0.02), ("resnet20", 0.9), ("resnet20", 0.2)]
)
def test_no_more_than_keep_stays_and_hardly_less(name, keep):
    _, pruner = pruned(name, keep=keep)
    one_channel = 0.03  # of the MACs, at most
    assert keep - one_channel < pruner.report.kept <= keep


@pytest.mark.parametrize("align", [4, 8, 16])
@pytest.mark.parametrize("name", CASES)
def test_layers_that_are_cut_keep_a_multiple_of_the_alignment(name, align):
    _, pruner = pruned(name, keep=0.65, align=align)
    assert pruner.report.kept <= 0.65
    for before, after in widths(pruner).values():
        assert after == before or (after % align == 0 and after >= align)


def test_the_default_job_keeps_less_than_half_in_multiples_of_sixteen():
    _, pruner = pruned(keep=0.5, align=16)
    assert pruner.report.kept <= 0.5
    assert widths(pruner)["conv1"] == (32, 16)
    assert widths(pruner)["dense2"] == (10, 10)


def test_a_width_that_is_no_multiple_becomes_one():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 21), nn.ReLU(), nn.Linear(21, 6), nn.ReLU(), nn.Linear(6, 3))
    pruner = StructuredPruner(model, torch.zeros(1, 1, 8, 8), keep=0.9, align=8)
    pruner.step()
    assert widths(pruner)["1"] == (21, 16)
    assert widths(pruner)["3"] == (6, 6)
    assert "6 channels are no more than the alignment of 8" in {layer.reason for layer in pruner.report.layers}


def test_what_cannot_be_reached_is_told_with_what_can_and_nothing_is_cut():
    model = build("resnet20", {"input_shape": (3, 32, 32), "classes": 10})
    before = sum(p.numel() for p in model.parameters())
    with pytest.raises(ConfigError, match=r"keep 0\.5 cannot be reached in multiples of 16 channels: 0\.601"):
        StructuredPruner(model, torch.zeros(1, 3, 32, 32), keep=0.5, align=16)
    assert sum(p.numel() for p in model.parameters()) == before
    reachable = StructuredPruner(model, torch.zeros(1, 3, 32, 32), keep=0.601, align=16)
    reachable.step()
    assert reachable.report.kept <= 0.601


def test_every_layer_that_was_left_says_why():
    _, pruner = pruned("resnet20", keep=0.7, align=16)
    for layer in pruner.report.layers:
        assert bool(layer.reason) == (layer.before == layer.after)
    reasons = {layer.name: layer.reason for layer in pruner.report.layers}
    assert "pads its channels" in reasons["layer2.0.conv2"]
    assert reasons["linear"] == "it is the output"


def test_what_stays_whole_is_told_in_a_line_for_each_reason():
    _, pruner = pruned("resnet20", keep=0.7)
    assert pruner.structure.whole == (
        "conv1, layer1.0.conv2, layer1.1.conv2, layer1.2.conv2 and 6 more: a shortcut pads its channels with zeros:"
        " removing some would shift the rest",
    )
    assert pruned()[1].structure.whole == ()  # but for the output, which always does


def test_the_smallest_weights_go_first():
    torch.manual_seed(0)
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    small = [3, 17, 40, 63]
    with torch.no_grad():
        model.conv2.weight[small] *= 1e-3
        model.dense1.weight.view(128, 64, 4)[:, small] *= 1e-3
    pruner = StructuredPruner(model, torch.zeros(1, 1, 8, 8), keep=0.93)
    pruner.step()
    removed = next(cut.removed for cut in pruner.log.cuts if (cut.module, cut.axis) == ("conv2", "out"))
    assert set(small) <= set(removed)


def test_the_log_cuts_another_dense_network_in_the_same_way():
    model, pruner = pruned(seed=5)
    torch.manual_seed(5)
    again = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    replay(again, pruner.log)
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


def test_a_second_step_does_nothing_and_keeping_all_cuts_nothing():
    model, pruner = pruned()
    shapes = [p.shape for p in model.parameters()]
    pruner.step()
    assert [p.shape for p in model.parameters()] == shapes
    _, kept = pruned(keep=1.0)
    assert not kept.log.cuts
    assert kept.report.kept == 1


def test_a_numpy_example_will_do_and_the_report_is_json():
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    pruner = StructuredPruner(model, np.zeros((1, 1, 8, 8), np.float32), keep=0.5)
    pruner.step()
    assert json.loads(json.dumps(asdict(pruner.report)))["macs_before"] == 347_392


def train(model, pruner, optimizer, steps, start=0):
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(16, 1, 8, 8, generator=generator), torch.randint(0, 10, (16,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        pruner.step()


def begun(criterion, remove="channels", name="cnn"):
    torch.manual_seed(0)
    shape = (1, 8, 8)
    model = build(name, {"input_shape": shape, "classes": 10})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = Schedule("cubic", start=2, steps=8, every=2)
    pruner = StructuredPruner(
        model, torch.zeros(1, *shape), criterion, optimizer=optimizer, keep=0.5, remove=remove, schedule=schedule
    )
    return model, optimizer, pruner


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_gradual_pruner_removes_a_little_at_a_time_and_says_when(criterion):
    model, optimizer, pruner = begun(criterion)
    train(model, pruner, optimizer, 12)
    events = pruner.report.events
    assert [event.step for event in events][:3] == [4, 6, 8]  # by 10 the channels of one removal may be gone
    schedule = pruner.schedule
    for event in events:
        goal = 1 - 0.5 * schedule.progress(event.step)
        assert goal - 0.05 < event.kept <= goal
    for layer in pruner.report.layers:
        assert layer.before - layer.after == sum(event.layers.get(layer.name, 0) for event in events)


@pytest.mark.parametrize(
    ("criterion", "remove", "name"),
    [("taylor", "channels", "cnn"), ("magnitude", "blocks", "resnet20"), ("taylor", "blocks", "resnet20")],
)
def test_a_run_that_goes_on_from_its_state_ends_as_an_unbroken_one(criterion, remove, name, tmp_path):
    model, optimizer, pruner = begun(criterion, remove, name)
    train(model, pruner, optimizer, 12)
    first, its, steps = begun(criterion, remove, name)
    train(first, steps, its, 7)
    torch.save([steps.state_dict(), first.state_dict(), its.state_dict()], tmp_path / "state")
    again, other, went_on = begun(criterion, remove, name)
    states = torch.load(tmp_path / "state", weights_only=True)
    for one, state in zip((went_on, again, other), states, strict=True):
        one.load_state_dict(state)
    train(again, went_on, other, 5, start=7)
    assert went_on.log == pruner.log
    assert went_on.report == pruner.report
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


def test_the_state_of_another_network_is_refused():
    _, pruner = pruned("resnet20", keep=0.7)
    _, _, other = begun("magnitude")
    with pytest.raises(ModelError, match="the pruner's state is another network's"):
        other.load_state_dict(pruner.state_dict())


def test_uniform_takes_the_same_fraction_of_every_layer():
    _, pruner = pruned("resnet20", keep=0.5, criterion="uniform")
    fractions = [after / before for before, after in widths(pruner).values() if after < before]
    assert len(fractions) == 9
    assert max(fractions) - min(fractions) <= 1 / 16


def test_a_layer_keeps_its_own_fraction_and_one_that_must_not_be_pruned_stays():
    _, pruner = pruned(keep=0.75, fractions={"conv1": 1.0, "conv2": 0.75})
    assert widths(pruner)["conv1"] == (32, 32)
    assert widths(pruner)["conv2"] == (64, 48)
    assert pruner.report.kept <= 0.75
    assert next(one.reason for one in pruner.report.layers if one.name == "conv1") == "it was asked to stay whole"


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"conv9": 0.5}, r"unknown layer 'conv9': did you mean 'conv\d'\?"),
        ({"dense2": 0.5}, r"dense2: must stay whole \(it is the output\): leave it out"),
        ({"conv1": 0.0}, "fraction 0 of conv1"),
        ({"conv*": 1.0, "dense1": 1.0}, "keep 0.5 cannot be reached in multiples of 1 channels: 1 of the"),
    ],
)
def test_fractions_that_cannot_be_are_refused(fractions, message):
    with pytest.raises(ConfigError, match=message):
        pruned(keep=0.5, fractions=fractions)


def test_a_block_that_must_not_be_pruned_stays():
    kept = pruned("resnet20", keep=0.7, remove="blocks")[1].report.blocks[0]
    _, pruner = pruned("resnet20", keep=0.7, remove="blocks", fractions={f"{kept}.conv1": 1.0})
    assert kept not in pruner.report.blocks
    assert pruner.report.kept <= 0.7
    assert (
        next(one.reason for one in pruner.report.layers if one.name == f"{kept}.conv1") == "it was asked to stay whole"
    )
    _, pruner = pruned("resnet20", keep=0.7, remove="blocks", fractions={kept: 1.0})
    assert kept not in pruner.report.blocks
    with pytest.raises(OutOfReachError, match=r"keep 0\.7 cannot be reached by removing whole blocks: 1 of the"):
        pruned("resnet20", keep=0.7, remove="blocks", fractions={"layer*": 1.0})
    with pytest.raises(ConfigError, match=r"fraction 0\.5 of layer1\.\*: blocks go or stay: write 1"):
        pruned("resnet20", keep=0.7, remove="blocks", fractions={"layer1.*": 0.5})
    with pytest.raises(ConfigError, match=r"unknown layer 'layer9\.\*'"):
        pruned("resnet20", keep=0.7, remove="blocks", fractions={"layer9.*": 1.0})


def test_a_layer_of_a_stack_that_must_not_be_pruned_stays():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.read, self.last = nn.LSTM(4, 4, 3, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.read(x)[0].amax(1))

    def blocks(**fractions):
        pruner = StructuredPruner(Reader(), torch.zeros(1, 5, 4), keep=0.7, remove="blocks", fractions=fractions)
        pruner.step()
        return pruner.report.blocks

    assert len(blocks()) == 1
    assert blocks(**{"read:1": 1.0, "read:0": 1.0}) == ("read:2",)
    with pytest.raises(OutOfReachError):
        blocks(read=1.0)


def test_a_fraction_that_the_alignment_makes_whole_says_so():
    _, pruner = pruned(keep=0.8, align=16, fractions={"conv1": 0.75})
    assert widths(pruner)["conv1"] == (32, 32)
    reason = next(one.reason for one in pruner.report.layers if one.name == "conv1")
    assert reason == "0.75 of its 32 channels in multiples of 16 are all of them"


def test_a_network_without_layers_is_refused():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 2))

        def forward(self, x):
            return x @ self.weight

    with pytest.raises(ModelError, match="Bare: has no convolution, dense or recurrent layer: use --pruner none"):
        StructuredPruner(Bare(), torch.zeros(1, 4))
    optimizer = torch.optim.SGD((bare := Bare()).parameters(), lr=0.1)
    with pytest.raises(ModelError, match="Bare: has no convolution, dense or recurrent layer: use --pruner none"):
        Walk(bare, torch.zeros(1, 4), optimizer, every=1, decisions=1)


def test_a_fraction_of_the_weights_is_another_cost():
    model, pruner = pruned(keep=0.3, cost="weights")
    counted = sum(one.weight.numel() for one in model.modules() if hasattr(one, "weight"))
    assert pruner.report.cost_after == counted <= 0.3 * pruner.report.cost_before


def test_whole_blocks_go_and_what_can_be_reached_is_told():
    model, pruner = pruned("resnet20", keep=0.6, remove="blocks", align=16)
    report = pruner.report
    assert report.kept <= 0.6
    assert all(isinstance(model.get_submodule(name), Skip) for name in report.blocks)
    gone = [one for one in report.layers if one.after == 0]
    assert len(gone) == 2 * len(report.blocks)
    with pytest.raises(ConfigError, match=r"keep 0\.1 cannot be reached by removing whole blocks: 0\.\d+ of the"):
        pruned("resnet20", keep=0.1, remove="blocks")


@pytest.mark.parametrize("name", ["lstm", "bilstm"])
def test_hidden_units_go_and_the_network_is_reloaded(name, tmp_path):
    torch.manual_seed(0)
    arguments = {"length": 6, "vocabulary": 20, "classes": 2, "task": "classification"}
    model = build(name, arguments).eval()
    ids = torch.randint(1, 20, (3, 6))
    pruner = StructuredPruner(model, {"input_ids": ids[:1]}, keep=0.4, align=8)
    pruner.step()
    assert pruner.report.kept <= 0.4
    assert all(one.hidden_size % 8 == 0 for one in model.modules() if isinstance(one, nn.LSTM))
    save(tmp_path, model, pruner.log, name, arguments)
    torch.testing.assert_close(reload(tmp_path).eval()(ids), model(ids), rtol=0, atol=0)


def test_heads_and_layers_of_an_encoder_go_and_it_is_reloaded(tmp_path):
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    arguments = {"length": 6, "vocabulary": 20, "classes": 2, "task": "classification"}
    model = build("bert-mini", arguments).eval()
    ids = torch.randint(1, 20, (3, 6))
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    example = {key: one[:1] for key, one in given.items()}
    blocks = StructuredPruner(model, example, keep=0.8, remove="blocks")
    blocks.step()
    assert len(blocks.report.blocks) == 1
    channels = StructuredPruner(model, example, keep=0.5)
    channels.step()
    queries = [one.out_features for name, one in model.named_modules() if name.endswith("query")]
    assert all(channels % 64 == 0 for channels in queries)  # whole heads
    assert min(queries) < 256
    log = merged(channels.log.cuts, blocks.log.blocks)
    save(tmp_path, model, log, "bert-mini", arguments)
    again = reload(tmp_path).eval()
    torch.testing.assert_close(again(**given).logits, model(**given).logits, rtol=0, atol=0)


def test_what_costs_much_for_what_it_matters_goes_first():
    """Prices that say one layer takes all the time: it alone is cut."""
    torch.manual_seed(0)
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    prices = [
        Price("conv1", (("conv1", "out"),), lambda lost: 0.0),
        Price("conv2", (("conv2", "out"),), lambda lost: 64 - lost[0]),
        Price("dense1", (("dense1", "out"),), lambda lost: 0.0),
    ]
    pruner = StructuredPruner(model, torch.zeros(1, 1, 8, 8), keep=0.5, prices=prices, per_cost=True, align=4)
    pruner.step()
    assert {layer.name for layer in pruner.report.layers if layer.after < layer.before} == {"conv2"}
    assert widths(pruner)["conv2"] == (64, 32)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"keep": float("nan")}, "keep nan: write the fraction that may stay, above 0, up to 1"),
        ({"keep": -1.0}, "keep -1: write"),
        ({"remove": "block"}, "remove 'block': write one of channels, blocks"),
        ({"cost": "flops"}, "cost 'flops': write one of macs, weights, or give prices"),
        ({"align": 0}, "align 0: write a number of channels, 1 or more"),
    ],
)
def test_values_that_mean_nothing_are_refused_with_those_that_do(how, message):
    with pytest.raises(ConfigError, match=message):
        pruned(**how)


def test_a_state_is_refused_by_a_network_that_has_been_cut():
    model, pruner = pruned()
    with pytest.raises(ModelError, match="has been cut already: load the pruner's state into the dense network"):
        pruned()[1].load_state_dict(pruner.state_dict())
    again = StructuredPruner(model, torch.zeros(1, 1, 8, 8), keep=0.9)
    with pytest.raises(ModelError, match="the pruner's state is another network's"):
        again.load_state_dict(pruner.state_dict())
