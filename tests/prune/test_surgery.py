from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from edgeprune.errors import CorruptError, ModelError, OutputError
from edgeprune.models.zoo import build
from edgeprune.prune.groups import find_groups
from edgeprune.prune.surgery import ARCHITECTURE, WEIGHTS, Cut, SurgeryLog, mask, merged, read_log, reload, replay, save
from edgeprune.prune.trial import Trial

CASES = {"cnn": (1, 8, 8), "lenet5": (1, 8, 8), "resnet20": (3, 32, 32)}
GROUPS = {
    name: find_groups(Trial.of(build(name, {"input_shape": shape, "classes": 10}), torch.zeros(1, *shape))).found
    for name, shape in CASES.items()
}


def with_statistics(name):
    """A network as training leaves it: no bias, scale, mean or variance is zero or one."""
    torch.manual_seed(0)
    model = build(name, {"input_shape": CASES[name], "classes": 10})
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                tensor.data.uniform_(0.2, 1.5)
    return model.double().eval()


@st.composite
def logs(draw, name):
    """Channels of each group that may be cut, chosen at random; at least one of each stays."""
    cuts = []
    for group in GROUPS[name]:
        if not group.whole:
            channels = st.integers(0, group.channels - 1)
            cuts += group.cuts(draw(st.sets(channels, max_size=group.channels - 1)))
    return merged(cut for cut in cuts if cut.removed)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_cut_network_computes_what_it_computes_with_those_channels_at_zero(name, data):
    log = data.draw(logs(name))
    x = torch.randn(3, *CASES[name], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    masked, cut = with_statistics(name), with_statistics(name)
    mask(masked, log)
    replay(cut, log)
    with torch.no_grad():
        torch.testing.assert_close(cut(x), masked(x), rtol=1e-9, atol=1e-9)
    for one in log.cuts:
        before, after = masked.get_submodule(one.module), cut.get_submodule(one.module)
        assert sum(p.numel() for p in after.parameters()) < sum(p.numel() for p in before.parameters())


def test_a_cut_network_is_saved_and_reloaded_without_its_code(tmp_path):
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    log = merged(cut for group in GROUPS["cnn"] if not group.whole for cut in group.cuts([0, 3]))
    replay(model, log)
    save(tmp_path, model, log, "cnn", {"input_shape": [1, 8, 8], "classes": 10})
    assert {path.name for path in tmp_path.iterdir()} == {WEIGHTS, ARCHITECTURE}
    assert read_log(tmp_path) == log
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(reload(tmp_path)(x), model(x), rtol=0, atol=0)
    with pytest.raises(ModelError, match="was made of cnn, not of lenet5: say cnn"):
        reload(tmp_path, "lenet5")


def test_a_factory_file_is_never_taken_from_the_folder(tmp_path):
    net = tmp_path / "net.py"
    net.write_text("from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))")
    factory = f"{net}:make"
    model = build(factory, {"input_shape": (1, 8, 8), "classes": 10})
    save(tmp_path, model, SurgeryLog(), factory, {"input_shape": [1, 8, 8], "classes": 10})
    assert str(tmp_path) not in (tmp_path / ARCHITECTURE).read_text()
    with pytest.raises(ModelError, match=r"made by net\.py:make, which is code of yours"):
        reload(tmp_path)
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(reload(tmp_path, factory)(x), model(x), rtol=0, atol=0)


def test_a_network_for_texts_is_saved_and_reloaded(tmp_path):
    arguments = {"length": 6, "vocabulary": 20, "classes": 2, "task": "classification"}
    model = build("lstm", arguments).eval()
    save(tmp_path, model, SurgeryLog(), "lstm", arguments)
    x = torch.randint(1, 20, (3, 6))
    torch.testing.assert_close(reload(tmp_path).eval()(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize(("factory", "kept"), [("hf:{}", "hf:tiny"), ("hf:org/name", "hf:org/name")])
def test_no_path_of_a_machine_is_kept(tmp_path, factory, kept):
    (tmp_path / "tiny").mkdir()
    arguments = {"input_shape": [1, 8, 8], "classes": 10}
    save(tmp_path, nn.Linear(2, 2), SurgeryLog(), factory.format(tmp_path / "tiny"), arguments)
    assert json.loads((tmp_path / ARCHITECTURE).read_text())["factory"] == kept


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["arguments"].pop("input_shape"),
        lambda raw: raw.update(schema=99),
        lambda raw: raw.pop("surgery"),
        lambda raw: raw.update(surgery={"cuts": [{"module": "conv1", "axis": "up", "removed": [0]}]}),
        lambda raw: raw.update(surgery={"cuts": [{"module": "conv1", "axis": "out", "removed": ["a"]}]}),
        lambda raw: raw.update(surgery={"cuts": [], "stages": []}),
        lambda raw: raw["arguments"].pop("classes"),
    ],
)
def test_a_damaged_architecture_is_told(tmp_path, change):
    save(tmp_path, nn.Linear(2, 2), SurgeryLog(), "cnn", {"input_shape": [1, 8, 8], "classes": 10})
    raw = json.loads((tmp_path / ARCHITECTURE).read_text())
    change(raw)
    (tmp_path / ARCHITECTURE).write_text(json.dumps(raw))
    with pytest.raises(CorruptError, match=r"architecture\.json"):
        reload(tmp_path)


def test_a_folder_with_nothing_in_it_and_one_that_is_not_there_are_told(tmp_path):
    with pytest.raises(CorruptError, match="missing or damaged"):
        reload(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        save(tmp_path / "none", nn.Linear(2, 2), SurgeryLog(), "cnn", {"input_shape": [1, 8, 8], "classes": 10})


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (Cut("conv9", "out", (0,)), "no layer 'conv9'"),
        (Cut("conv1", "out", (32,)), "conv1 has 32 output channels"),
        (Cut("conv1", "out", (-1,)), "conv1 has 32 output channels"),
        (Cut("conv1", "out", tuple(range(32))), "conv1 has 32 output channels, 32 up to 31 cannot be removed"),
        (Cut("pool", "out", (0,)), "MaxPool2d cannot lose output channels"),
    ],
)
def test_a_log_of_another_model_is_refused(cut, message):
    for change in (replay, mask):
        with pytest.raises(ModelError, match=message):
            change(build("cnn", {"input_shape": (1, 8, 8), "classes": 10}), SurgeryLog((cut,)))


def test_a_frozen_layer_stays_frozen():
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    model.conv1.weight.requires_grad_(False)
    replay(model, SurgeryLog((Cut("conv1", "out", (0,)),)))
    assert not model.conv1.weight.requires_grad
    assert model.conv1.bias.requires_grad
    assert model.conv1.out_channels == 31


def test_weights_that_share_their_bytes_can_be_written(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4))
    model[2].weight = model[1].weight
    save(tmp_path, model, SurgeryLog(), "cnn", {"input_shape": [1, 2, 2], "classes": 4})
    stored = load_file(tmp_path / WEIGHTS)
    assert torch.equal(stored["1.weight"], stored["2.weight"])
