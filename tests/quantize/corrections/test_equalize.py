import numpy as np
import pytest
import torch

from edgeprune.export.to_onnx import export
from edgeprune.graph.load import read_onnx
from edgeprune.models.zoo import build, specs_of
from edgeprune.quantize.corrections.equalize import Equalize

RNG = np.random.default_rng(0)
IMAGES = {"input_shape": (3, 32, 32), "classes": 10}


def uneven(*shape: int) -> np.ndarray:
    """Weights whose output channels differ by orders of magnitude in range."""
    ranges = np.exp(RNG.uniform(-3, 3, shape[0])).reshape(-1, *[1] * (len(shape) - 1))
    return (RNG.normal(size=shape) * ranges).astype(np.float32)


def weight(model, name: str) -> np.ndarray:
    return model.graph.initializers[name].const_value.numpy()


GRAPHS = {
    "through a ReLU": ("a = Conv(x, w1, b) r = Relu(a) y = Conv(r, w2)", (6, 4, 3, 3), (5, 6, 1, 1)),
    "without a bias": ("a = Conv(x, w1) y = Conv(a, w2)", (6, 4, 3, 3), (5, 6, 1, 1)),
    "into a depthwise layer": ("a = Conv(x, w1, b) r = Relu(a) y = Conv<group = 6>(r, w2)", (6, 4, 1, 1), (6, 1, 3, 3)),
    "out of a depthwise layer": ("a = Conv<group = 4>(x, w1) y = Conv(a, w2)", (8, 1, 3, 3), (5, 8, 1, 1)),
    "into a grouped layer": ("a = Conv(x, w1, b) y = Conv<group = 2>(a, w2)", (6, 4, 1, 1), (4, 3, 3, 3)),
    "through pools": (
        "a = Conv(x, w1, b) r = Relu(a) p = MaxPool<kernel_shape = [2, 2]>(r) y = Conv(p, w2)",
        (6, 4, 3, 3),
        (5, 6, 1, 1),
    ),
}


@pytest.mark.parametrize(("body", "first", "second"), GRAPHS.values(), ids=GRAPHS)
def test_both_layers_get_the_same_range_and_the_function_stays(parse, evaluate, body, first, second):
    model = parse(
        f"(float[2, 4, 8, 8] x) => (float[2, C, H, W] y) {{ {body} }}",
        w1=uneven(*first),
        w2=uneven(*second),
        b=uneven(first[0]),
    )
    x = RNG.normal(size=(2, 4, 8, 8)).astype(np.float32)
    expected = evaluate(model, x=x)
    assert Equalize()(model).modified
    np.testing.assert_allclose(evaluate(model, x=x), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    written = np.abs(weight(model, "w1")).max(axis=(1, 2, 3))
    groups = first[0] // second[1]
    read = np.abs(weight(model, "w2").reshape(groups, second[0] // groups, second[1], -1)).max(axis=(1, 3)).reshape(-1)
    np.testing.assert_allclose(written, read, rtol=1e-3)


@pytest.mark.parametrize(
    "body",
    [
        "a = Gemm(x, w1, b) r = Relu(a) y = Gemm(r, w2)",
        "a = Gemm(x, w1, b) r = Relu(a) y = Gemm<transB = 1>(r, w3)",
        "p = MatMul(x, w1) a = Add(p, b) r = Relu(a) y = MatMul(r, w2)",
        "a = MatMul(x, w1) y = MatMul(a, w2)",
    ],
)
def test_dense_layers_are_equalized(parse, evaluate, body):
    w2 = uneven(6, 5)
    model = parse(
        f"(float[7, 4] x) => (float[7, 5] y) {{ {body} }}", w1=uneven(6, 4).T.copy(), w2=w2, w3=w2.T.copy(), b=uneven(6)
    )
    x = RNG.normal(size=(7, 4)).astype(np.float32)
    expected = evaluate(model, x=x)
    Equalize()(model)
    np.testing.assert_allclose(evaluate(model, x=x), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    read = weight(model, "w3").T if "w3" in body else weight(model, "w2")
    np.testing.assert_allclose(np.abs(weight(model, "w1")).max(axis=0), np.abs(read).max(axis=1), rtol=1e-3)


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv(x, w1) c = Clip(a, zero, six) y = Conv(c, w2)",
        "a = Conv(x, w1) c = Sigmoid(a) y = Conv(c, w2)",
        "a = Conv(x, w1) c = Conv(a, w2) y = Add(a, c)",
        "a = Conv(x, w1) c = Conv(a, w1) y = Relu(c)",
    ],
    ids=["ReLU6", "a curve", "read twice", "a shared weight"],
)
def test_what_does_not_scale_or_is_shared_stays(parse, body):
    w = uneven(4, 4, 1, 1)
    model = parse(
        f"(float[1, 4, 2, 2] x) => (float[1, 4, 2, 2] y) {{ {body} }}",
        w1=w,
        w2=uneven(4, 4, 1, 1),
        zero=np.float32(0),
        six=np.float32(6),
    )
    assert not Equalize()(model).modified
    np.testing.assert_array_equal(weight(model, "w1"), w)


def test_dead_channels_stay(parse):
    w1, w2 = uneven(6, 4, 1, 1), uneven(5, 6, 1, 1)
    w1[2], w2[:, 3] = 0, 0
    model = parse(
        "(float[1, 4, 2, 2] x) => (float[1, 5, 2, 2] y) { a = Conv(x, w1, b) y = Conv(a, w2) }",
        w1=w1,
        w2=w2,
        b=uneven(6),
    )
    Equalize()(model)
    np.testing.assert_array_equal(weight(model, "w1")[[2, 3]], w1[[2, 3]])
    assert np.isfinite(weight(model, "w2")).all()


@pytest.mark.parametrize("name", ["cnn", "resnet20", "mobilenetv2"])
def test_networks_compute_what_they_computed(name, evaluate, tmp_path):
    torch.manual_seed(0)
    export(build(name, IMAGES).eval(), specs_of(IMAGES), tmp_path / "m.onnx")
    model = read_onnx(tmp_path / "m.onnx")
    x = RNG.normal(size=(2, 3, 32, 32)).astype(np.float32)
    (given,) = model.graph.inputs
    expected = evaluate(model, **{given.name: x})
    assert Equalize()(model).modified
    found = evaluate(model, **{given.name: x})
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
