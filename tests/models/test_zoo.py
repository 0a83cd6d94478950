from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from edgeprune.data.datasets import describe, read
from edgeprune.data.pixels import Pixels
from edgeprune.errors import CorruptError, ModelError, UnknownNameError
from edgeprune.metrics import top1
from edgeprune.models.zoo import ZOO, build, load_weights, source_hash, specs_of
from edgeprune.recipe import Rows
from edgeprune.tensor import TensorSpec
from edgeprune.train.evaluate import evaluate

SHAPE = (1, 8, 8)
TEXTS = {"bert-base", "bert-mini", "bilstm", "distilbert", "lstm"}
TEXT = {"length": 6, "vocabulary": 20, "classes": 2, "task": "classification"}


@pytest.fixture
def weights(tmp_path):
    """A fitting weights file and the tensors in it."""
    path = tmp_path / "cnn.safetensors"
    tensors = build("cnn", {"input_shape": SHAPE, "classes": 10}).state_dict()
    save_file(tensors, path)
    return path, tensors


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)], ids=str)
@pytest.mark.parametrize("name", sorted(set(ZOO) - TEXTS))
def test_every_model_maps_every_data_sets_images_to_scores(name, shape):
    model = build(name, {"input_shape": shape, "classes": 7}).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "parameters"),
    [
        ("lenet5", (1, 28, 28), 10, 61_706),  # LeCun et al. 1998 with full connections
        ("resnet20", (3, 32, 32), 10, 269_722),  # He et al. 2015, table 6: 0.27 M
        ("resnet32", (3, 32, 32), 10, 464_154),  # 0.46 M
        ("resnet44", (3, 32, 32), 10, 658_586),  # 0.66 M
        ("resnet56", (3, 32, 32), 10, 853_018),  # 0.85 M
        ("resnet18", (3, 224, 224), 1000, 11_689_512),  # torchvision's
        ("resnet50", (3, 224, 224), 1000, 25_557_032),  # torchvision's
        ("mobilenetv2", (3, 224, 224), 1000, 3_504_872),  # torchvision's; Sandler et al. 2018, table 4: 3.4 M
    ],
)
def test_a_model_has_as_many_parameters_as_were_published(name, shape, classes, parameters):
    model = build(name, {"input_shape": shape, "classes": classes})
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(("name", "shape"), [("lstm", (3, 2)), ("bilstm", (3, 1))])
def test_recurrent_models_map_texts_to_scores(name, shape):
    model = build(name, TEXT).eval()
    with torch.no_grad():
        assert model(torch.ones(3, 6, dtype=torch.int64)).shape == shape


def test_data_that_a_model_is_not_made_for_are_refused():
    images = {"input_shape": [3, 32, 32], "classes": 2, "task": "classification"}
    with pytest.raises(ModelError, match="resnet20 takes images, the data are texts: choose other data"):
        build("resnet20", TEXT)
    for name in ("bilstm", "bert-base"):
        with pytest.raises(ModelError, match=f"{name} takes texts, the data are images"):
            build(name, images)
    with pytest.raises(ModelError, match="cnn takes images, the data are arrays of numbers"):
        build("cnn", {"inputs": {"x": ["float32", ["batch", 3]]}, "classes": 2, "task": "classification"})
    with pytest.raises(ModelError, match="lstm answers a sample as a whole"):
        build("lstm", {**TEXT, "task": "question-answering"})


def test_tensors_follow_from_what_the_data_say():
    assert specs_of({"input_shape": [3, 4, 5]}) == (TensorSpec("image", "float32", ("batch", 3, 4, 5)),)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    assert specs_of(TEXT) == tuple(TensorSpec(name, "int64", ("batch", 6)) for name in names)
    inputs = {"x": ["float32", ["batch", 3]], "n": ["int32", ["batch"]]}
    assert specs_of({"inputs": inputs}) == (
        TensorSpec("x", "float32", ("batch", 3)),
        TensorSpec("n", "int32", ("batch",)),
    )


@pytest.mark.parametrize("name", ["cnn", "cnn-fc", "lenet5"])
def test_an_input_that_would_vanish_is_refused(name):
    with pytest.raises(ModelError, match="3x3 is too small"):
        build(name, {"input_shape": (1, 3, 3), "classes": 2})


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"did you mean 'resnet56'.*or file\.py:factory"):
        build("resnet5", {"input_shape": SHAPE, "classes": 10})


@pytest.mark.parametrize(("name", "accuracy"), [("20", 0.915), ("32", 0.928), ("44", 0.933), ("56", 0.926)])
def test_given_weights_reach_their_known_accuracy_on_the_lossless_test_images(shared_data, name, accuracy):
    model = build(f"resnet{name}", {"input_shape": (3, 32, 32), "classes": 10})
    load_weights(model, shared_data.parent / "models" / "resnet_cifar10" / f"resnet{name}.safetensors")
    samples = read(Rows(source="cifar10:test"), describe("cifar10"), root=shared_data)
    preprocess = Pixels((32, 32), 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    scores = evaluate(model, samples, preprocess)["output"]
    assert (top1(scores) == samples.labels).mean() == pytest.approx(accuracy, abs=1e-9)


def test_loaded_weights_are_those_of_the_file(weights):
    path, tensors = weights
    model = build("cnn", {"input_shape": SHAPE, "classes": 10})
    load_weights(model, path)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())


def test_counters_of_batches_may_be_absent(tmp_path):
    model = build("resnet20", {"input_shape": (3, 32, 32), "classes": 10})
    kept = {name: tensor for name, tensor in model.state_dict().items() if "num_batches" not in name}
    save_file(kept, tmp_path / "w.safetensors")
    load_weights(model, tmp_path / "w.safetensors")


def test_every_fault_of_the_tensors_is_named(weights):
    path, tensors = weights
    del tensors["conv1.bias"]
    tensors["conv9.bias"] = torch.zeros(3)
    tensors["dense2.bias"] = torch.zeros(11)
    save_file(tensors, path)
    with pytest.raises(ModelError) as caught:
        load_weights(build("cnn", {"input_shape": SHAPE, "classes": 10}), path)
    assert "missing: conv1.bias" in str(caught.value)
    assert "unexpected: conv9.bias" in str(caught.value)
    assert "of another shape: dense2.bias [11] for [10]" in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(weights, value):
    path, tensors = weights
    tensors["conv2.bias"][5] = value
    save_file(tensors, path)
    with pytest.raises(ModelError, match=r"conv2\.bias holds NaN or infinite values"):
        load_weights(build("cnn", {"input_shape": SHAPE, "classes": 10}), path)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file_is_damaged(weights, kept):
    path, _ = weights
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CorruptError, match=r"cnn\.safetensors: truncated, damaged or not safetensors"):
        load_weights(build("cnn", {"input_shape": SHAPE, "classes": 10}), path)


def test_pickled_weights_are_not_read(tmp_path):
    torch.save(build("cnn", {"input_shape": SHAPE, "classes": 10}).state_dict(), tmp_path / "cnn.pt")
    with pytest.raises(CorruptError, match="pickled weights are not read"):
        load_weights(build("cnn", {"input_shape": SHAPE, "classes": 10}), tmp_path / "cnn.pt")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ModelError, match="no such weights file"):
        load_weights(build("cnn", {"input_shape": SHAPE, "classes": 10}), tmp_path / "none.safetensors")


def test_the_source_of_a_model_is_hashed_by_its_file(tmp_path):
    assert source_hash("resnet20") == source_hash("resnet56") != source_hash("cnn")
    path = tmp_path / "net.py"
    path.write_text("a = 1")
    before = source_hash(f"{path}:make")
    path.write_text("a = 2")
    assert source_hash(f"{path}:make") != before
