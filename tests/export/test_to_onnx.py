import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgeprune.errors import ModelError
from edgeprune.export.to_onnx import Exported, export
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.models.zoo import build, specs_of
from edgeprune.tensor import TensorSpec

EXPORT_ELSEWHERE = """
import sys
from pathlib import Path
from edgeprune.export.to_onnx import export
import torch
from edgeprune.models.zoo import build, specs_of
torch.manual_seed(0)
images = {"input_shape": (3, 16, 16), "classes": 10}
export(build("resnet20", images), specs_of(images), Path(sys.argv[1]))
"""


def images(*shape):
    return specs_of({"input_shape": shape})


class Branching(nn.Module):
    """What it computes depends on the values of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) if x.mean() > 0 else self.conv(-x)
        return out


class FixedBatch(nn.Module):
    """Reshapes to the batch it was written with."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x.view(2, 64))
        return out


class LooksAtMemory(nn.Module):
    """torch.export runs it on tensors that have none."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.data_ptr() == 0:
            raise RuntimeError("no memory")
        out: Tensor = self.conv(x)
        return out


class OnSequences(nn.Module):
    """Linear layers on three dimensions, which exporters turn into products with transposed weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.relu(self.first(x[:, 0])))
        return out


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> Exported:
    torch.manual_seed(0)
    model = build("resnet20", {"input_shape": (3, 16, 16), "classes": 10})
    return export(model, images(3, 16, 16), tmp_path_factory.mktemp("export") / "m.onnx")


def test_input_and_output_are_named_and_the_batch_is_free(resnet):
    assert [(spec.name, spec.dtype, spec.shape) for spec in (*resnet.inputs, *resnet.outputs)] == [
        ("input", "float32", ("batch", 3, 16, 16)),
        ("output", "float32", ("batch", 10)),
    ]
    assert (resnet.exporter, resnet.notes) == ("dynamo", ())


def test_weights_keep_their_torch_names_and_layers_are_named_after_them(resnet):
    parameters = dict(build("resnet20", {"input_shape": (3, 16, 16), "classes": 10}).named_parameters())
    expected = [name for name, parameter in parameters.items() if parameter.dim() > 1]
    layers = weighted_layers(read_onnx(resnet.file))
    assert sorted(layer.weight for layer in layers) == sorted(expected)
    assert all(layer.weight == f"{layer.name}.weight" for layer in layers)


def test_every_node_has_a_name_of_its_own(resnet):
    names = [node.name for node in read_onnx(resnet.file).graph]
    assert all(names)
    assert len(set(names)) == len(names)


def test_another_process_writes_the_same_bytes(resnet, tmp_path):
    other = tmp_path / "other.onnx"
    subprocess.run([sys.executable, "-c", EXPORT_ELSEWHERE, str(other)], check=True, cwd=tmp_path)
    assert hashlib.sha256(other.read_bytes()).digest() == hashlib.sha256(resnet.file.read_bytes()).digest()


def test_nothing_of_the_machine_is_in_the_file(resnet):
    content = resnet.file.read_bytes()
    for trace in (b"site-packages", b".py", str(Path.home()).encode(), torch.__version__.encode()):
        assert trace not in content


def test_exporters_say_nothing(tmp_path, capfd, recwarn):
    export(build("lenet5", {"input_shape": (1, 8, 8), "classes": 10}), images(1, 8, 8), tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_the_module_is_exported_as_in_evaluation_and_left_as_it_was(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 3))
    model[1].eval()
    model[0].weight.requires_grad_(False)
    exported = export(model, images(1, 8, 8), tmp_path / "m.onnx")
    assert {"BatchNormalization", "Dropout"}.isdisjoint(node.op_type for node in read_onnx(exported.file).graph)
    assert [module.training for module in model] == [True, False, True, True, True]


def test_a_linear_layer_on_sequences_keeps_its_name(tmp_path):
    exported = export(OnSequences(), images(1, 5, 8), tmp_path / "m.onnx")
    assert [layer.weight for layer in weighted_layers(read_onnx(exported.file))] == ["first.weight", "second.weight"]


def test_several_outputs_are_numbered(tmp_path):
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.relu(), x.mean((2, 3))

    assert [spec.name for spec in export(Two(), images(1, 8, 8), tmp_path / "m.onnx").outputs] == [
        "output_0",
        "output_1",
    ]


def test_what_torch_export_refuses_is_traced_and_the_reason_told(tmp_path):
    exported = export(LooksAtMemory(), images(1, 8, 8), tmp_path / "m.onnx")
    assert exported.exporter == "legacy"
    assert "Cannot access data pointer" in exported.notes[0]
    assert [layer.name for layer in weighted_layers(read_onnx(exported.file))] == ["conv"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Branching(), "cannot be exported to ONNX.*data-dependent.*Python boolean"),
        (FixedBatch(), "fixes the batch of its input to 2"),
        (nn.Conv2d(3, 4, 3), r"Conv2d fails on an input of \[2, 1, 8, 8\]: RuntimeError"),
        (nn.LSTM(8, 4), "LSTM"),
    ],
    ids=["branches on values", "fixed batch", "other channels", "other output"],
)
def test_a_module_that_cannot_be_exported_is_refused_in_one_line(tmp_path, capfd, model, reason):
    with pytest.raises(ModelError, match=reason) as refused:
        export(model, images(1, 8, 8), tmp_path / "m.onnx")
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "m.onnx").exists()


def test_a_disk_that_refuses_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        export(nn.Conv2d(1, 2, 3), images(1, 8, 8), tmp_path / "nowhere" / "m.onnx")


TEXT = {"length": 12, "vocabulary": 50, "classes": 2, "task": "classification"}


def test_a_recurrent_network_is_exported_with_its_own_operator_and_names(tmp_path):
    exported = export(build("bilstm", TEXT), specs_of(TEXT), tmp_path / "m.onnx")
    assert [(spec.name, spec.dtype, spec.shape) for spec in (*exported.inputs, *exported.outputs)] == [
        ("input_ids", "int64", ("batch", 12)),
        ("output", "float32", ("batch", 1)),
    ]
    graph = read_onnx(exported.file).graph
    assert {node.name for node in graph if node.op_type == "LSTM"} == {"forwards", "backwards"}
    assert graph.initializers.keys() >= {"embedding.weight", "dense.weight", "dense.bias"}
    assert graph.initializers.keys() >= {
        f"{direction}wards.{part}" for direction in ("for", "back") for part in ("weight_ih", "weight_hh", "bias")
    }


def test_inputs_and_outputs_have_the_names_of_the_module(tmp_path):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(3, 2)

        def forward(self, right: Tensor, left: Tensor) -> dict[str, Tensor]:
            return {"second": self.dense(left), "first": right * 2}

    specs = tuple(TensorSpec(name, kind, ("batch", 3)) for name, kind in (("left", "float32"), ("right", "int32")))
    for model in (Net(), Looking(Net())):
        exported = export(model, specs, tmp_path / "m.onnx")
        assert [(spec.name, spec.dtype) for spec in (*exported.inputs, *exported.outputs)] == [
            ("right", "int32"),
            ("left", "float32"),
            ("second", "float32"),
            ("first", "int32"),
        ]
    assert exported.exporter == "legacy"


class Looking(nn.Module):
    """Makes torch.export refuse another network."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, right: Tensor, left: Tensor) -> dict[str, Tensor]:
        if left.data_ptr() == 0:
            raise RuntimeError("no memory")
        out: dict[str, Tensor] = self.inner(right, left)
        return out
