from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune.errors import ConfigError
from edgeprune.models.zoo import build
from edgeprune.prune.structured import StructuredPruner
from edgeprune.prune.surgery import replay

CASES = {"cnn": (1, 8, 8), "resnet20": (3, 32, 32)}


def pruned(name="cnn", *, keep=0.5, align=1, seed=0):
    torch.manual_seed(seed)
    model = build(name, {"input_shape": CASES[name], "classes": 10})
    pruner = StructuredPruner(model, torch.zeros(1, *CASES[name]), keep=keep, align=align)
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
