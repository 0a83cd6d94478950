import numpy as np
import pytest
import torch
from torch import nn

from edgeprune.data.datasets import describe, read
from edgeprune.errors import DataError, ModelError
from edgeprune.export.parity import check
from edgeprune.export.to_onnx import export
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.models.transformer import bert
from edgeprune.models.zoo import build, specs_of
from edgeprune.tensor import TensorSpec


@pytest.fixture(scope="module")
def digits():
    info = describe("digits")
    samples = read(info.splits["calibrate"], info).part(slice(5))
    return {"input": info.preprocess(samples.columns)["image"]}


@pytest.fixture
def model():
    return build("cnn", {"input_shape": (1, 8, 8), "classes": 10})


def test_an_exported_file_computes_what_the_module_computes(tmp_path, model, digits):
    export(model, specs_of({"input_shape": (1, 8, 8)}), tmp_path / "m.onnx")
    assert check(model, tmp_path / "m.onnx", digits) < 1e-5


def test_the_module_is_compared_as_in_evaluation_and_left_as_it_was(tmp_path, digits):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)).train()
    export(model, specs_of({"input_shape": (1, 8, 8)}), tmp_path / "m.onnx")
    assert check(model, tmp_path / "m.onnx", digits) < 1e-5
    assert model.training


def test_a_file_with_another_weight_is_refused(tmp_path, model, digits):
    export(model, specs_of({"input_shape": (1, 8, 8)}), tmp_path / "m.onnx")
    with torch.no_grad():
        model.dense2.bias[3] += 0.001
    with pytest.raises(ModelError, match=r"ort at batch 2 differs from the torch model by 0\.001"):
        check(model, tmp_path / "m.onnx", digits)


def test_a_file_that_gives_nan_is_refused(tmp_path, model, digits):
    with torch.no_grad():
        model.dense2.bias[3] = float("nan")
    export(model, specs_of({"input_shape": (1, 8, 8)}), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="differs from the torch model by nan"):
        check(model, tmp_path / "m.onnx", digits)


def test_too_few_samples_are_refused(tmp_path, model, digits):
    export(model, specs_of({"input_shape": (1, 8, 8)}), tmp_path / "m.onnx")
    with pytest.raises(DataError, match="4 samples"):
        check(model, tmp_path / "m.onnx", {"input": digits["input"][:4]})


TEXT = {"length": 9, "vocabulary": 30, "classes": 2, "task": "classification"}


@pytest.fixture(scope="module")
def sentences():
    random = np.random.default_rng(0)
    mask = (np.arange(9) < random.integers(2, 10, (6, 1))).astype(np.int64)
    ids = random.integers(1, 30, (6, 9)) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def test_an_encoder_answers_questions_as_in_torch_and_keeps_all_names(tmp_path, sentences):
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = bert(9, 30, 0, "question-answering", layers=1, width=16, heads=2)
    exported = export(model, specs_of(TEXT), tmp_path / "m.onnx")
    assert [spec.name for spec in exported.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [spec.name for spec in exported.outputs] == ["start_logits", "end_logits"]
    layers = [layer.weight for layer in weighted_layers(read_onnx(exported.file))]
    known = (nn.Linear, nn.Embedding)
    named = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, known)}
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert linear <= set(layers) <= named
    assert check(model, exported.file, sentences) < 1e-5


def test_a_recurrent_network_answers_texts_of_many_lengths_as_in_torch(tmp_path, sentences):
    torch.manual_seed(0)
    model = build("bilstm", TEXT)
    exported = export(model, specs_of(TEXT), tmp_path / "m.onnx")
    feeds = {spec.name: sentences[spec.name] for spec in exported.inputs}
    assert check(model, exported.file, feeds) < 1e-5
    with torch.no_grad():
        model.embedding.weight += 0.5
    with pytest.raises(ModelError, match="differs from the torch model"):
        check(model, exported.file, feeds)


def test_each_of_several_outputs_is_compared(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 3)

        def forward(self, x):
            return {"a": self.a(x), "b": self.b(x)}

    model, specs = Two(), (TensorSpec("x", "float32", ("batch", 4)),)
    export(model, specs, tmp_path / "m.onnx")
    feeds = {"x": np.ones((5, 4), np.float32)}
    assert check(model, tmp_path / "m.onnx", feeds) < 1e-6
    with torch.no_grad():
        model.b.bias[1] += 0.01
    with pytest.raises(ModelError, match="'b' of ort at batch 2 differs"):
        check(model, tmp_path / "m.onnx", feeds)
