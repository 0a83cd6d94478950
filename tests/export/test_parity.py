import pytest
import torch
from torch import nn

from edgeprune.data.datasets import describe, read
from edgeprune.errors import DataError, ModelError
from edgeprune.export.parity import check
from edgeprune.export.to_onnx import export
from edgeprune.models.zoo import build


@pytest.fixture(scope="module")
def digits():
    info = describe("digits")
    return info.preprocess(read(info.splits["calibrate"]).images[:5])


@pytest.fixture
def model():
    return build("cnn", input_shape=(1, 8, 8), classes=10)


def test_an_exported_file_computes_what_the_module_computes(tmp_path, model, digits):
    export(model, (1, 8, 8), tmp_path / "m.onnx")
    assert check(model, tmp_path / "m.onnx", digits) < 1e-5


def test_the_module_is_compared_as_in_evaluation_and_left_as_it_was(tmp_path, digits):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)).train()
    export(model, (1, 8, 8), tmp_path / "m.onnx")
    assert check(model, tmp_path / "m.onnx", digits) < 1e-5
    assert model.training


def test_a_file_with_another_weight_is_refused(tmp_path, model, digits):
    export(model, (1, 8, 8), tmp_path / "m.onnx")
    with torch.no_grad():
        model.dense2.bias[3] += 0.001
    with pytest.raises(ModelError, match=r"ort at batch 2 differs from the torch model by 0\.001"):
        check(model, tmp_path / "m.onnx", digits)


def test_a_file_that_gives_nan_is_refused(tmp_path, model, digits):
    with torch.no_grad():
        model.dense2.bias[3] = float("nan")
    export(model, (1, 8, 8), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="differs from the torch model by nan"):
        check(model, tmp_path / "m.onnx", digits)


def test_too_few_samples_are_refused(tmp_path, model, digits):
    export(model, (1, 8, 8), tmp_path / "m.onnx")
    with pytest.raises(DataError, match="4 samples"):
        check(model, tmp_path / "m.onnx", digits[:4])
