import numpy as np

from edgeprune.graph.batch import free_batch


def test_the_leading_dimension_becomes_free_everywhere(parse):
    freed = free_batch(parse("(float[1, 4] x) => (float[1, 4] y) { a = Relu(x) y = Neg(a) }"))
    shapes = [value.shape for value in (*freed.graph.inputs, *freed.graph.outputs)]
    assert [str(shape[0].value) for shape in shapes] == ["batch", "batch"]


def test_the_given_model_is_left_as_it_was(parse):
    model = parse("(float[1, 4] x) => (float[1, 4] y) { y = Relu(x) }")
    free_batch(model)
    assert list(model.graph.inputs[0].shape) == [1, 4]


def test_weights_keep_their_shapes(parse):
    model = parse("(float[1, 2] x) => (float[1, 2] y) { y = Add(x, w) }", w=np.ones(2, np.float32))
    assert list(free_batch(model).graph.initializers["w"].shape) == [2]
