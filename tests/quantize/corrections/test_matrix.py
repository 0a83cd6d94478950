import numpy as np
import pytest

from edgeprune.quantize.corrections.matrix import as_weight, columns, matrix, product_layers

RNG = np.random.default_rng(0)
IMAGES = (2, 4, 7, 6)
LAYERS = {
    "plain": ("Conv", IMAGES, (6, 4, 3, 3)),
    "padded unevenly": ("Conv<pads = [1, 0, 2, 1]>", IMAGES, (6, 4, 3, 3)),
    "strided": ("Conv<strides = [2, 3], pads = [1, 1, 1, 1]>", IMAGES, (6, 4, 3, 3)),
    "dilated": ("Conv<dilations = [2, 1], pads = [2, 0, 2, 0]>", IMAGES, (6, 4, 3, 2)),
    "grouped": ("Conv<group = 2>", IMAGES, (6, 2, 3, 3)),
    "depthwise": ("Conv<group = 4, pads = [1, 1, 1, 1]>", IMAGES, (8, 1, 3, 3)),
    "same upper": ('Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>', IMAGES, (6, 4, 3, 3)),
    "same lower": ('Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>', IMAGES, (6, 4, 2, 2)),
    "of sequences": ("Conv<pads = [1, 1]>", (2, 4, 9), (6, 4, 3)),
    "dense": ("Gemm", (3, 4), (4, 6)),
    "dense, transposed": ("Gemm<transB = 1>", (3, 4), (6, 4)),
    "on tokens": ("MatMul", (2, 5, 4), (4, 6)),
}


@pytest.mark.parametrize(("op", "input_shape", "weight_shape"), LAYERS.values(), ids=LAYERS)
def test_a_layer_is_a_product_of_matrices(parse, evaluate, op, input_shape, weight_shape):
    x = RNG.normal(size=input_shape).astype(np.float32)
    weight = RNG.normal(size=weight_shape).astype(np.float32)
    dimensions = ", ".join(map(str, input_shape))
    model = parse(f"(float[{dimensions}] x) => (float[] y) {{ [layer] y = {op}(x, w) }}", w=weight)
    output = evaluate(model, x=x)
    ((node, layer),) = product_layers(model)

    channels = (matrix(weight, layer) @ columns(x, node, layer)).reshape(weight_shape[layer.axis], -1)
    expected = np.moveaxis(output, 1 if node.op_type == "Conv" else -1, 0).reshape(channels.shape)
    np.testing.assert_allclose(channels, expected, atol=1e-5)
    np.testing.assert_array_equal(as_weight(matrix(weight, layer), layer), weight)


@pytest.mark.parametrize("attributes", ["alpha = 0.5", "beta = 2.0", "transA = 1"])
def test_a_gemm_that_does_more_than_multiply_is_left_out(parse, attributes):
    model = parse(
        f"(float[4, 4] x) => (float[4, 4] y) {{ y = Gemm<{attributes}>(x, w) }}", w=np.ones((4, 4), np.float32)
    )
    assert product_layers(model) == []
