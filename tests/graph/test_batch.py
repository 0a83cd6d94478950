import numpy as np
import pytest

from edgeprune.errors import ModelError
from edgeprune.graph.batch import batched_inputs, free_batch


def shapes(model):
    return {value.name: [str(size) for size in value.shape] for value in (*model.graph.inputs, *model.graph.outputs)}


def test_the_leading_dimension_becomes_free_everywhere(parse):
    freed = free_batch(parse("(float[1, 4] x) => (float[1, 4] y) { a = Relu(x) y = Neg(a) }"))
    assert shapes(freed) == {"x": ["batch", "4"], "y": ["batch", "4"]}


def test_the_given_model_is_left_as_it_was(parse):
    model = parse("(float[1, 64] x) => (float[1, 8, 8] y) <int64[3] s = {1, 8, 8}> { y = Reshape(x, s) }")
    free_batch(model)
    assert list(model.graph.inputs[0].shape) == [1, 64]
    assert model.graph.initializers["s"].const_value.numpy().tolist() == [1, 8, 8]


def test_weights_keep_their_shapes(parse):
    model = parse("(float[1, 2] x) => (float[1, 2] y) { y = Add(x, w) }", w=np.ones(2, np.float32))
    assert list(free_batch(model).graph.initializers["w"].shape) == [2]


def test_several_inputs_and_outputs_share_one_batch(parse):
    text = "(float[n, k] a, float[m, k] b) => (float[n, k] y, float[m, k] z) { y = Relu(a)  z = Neg(b) }"
    freed = free_batch(parse(text))
    assert {size[0] for size in shapes(freed).values()} == {"batch"}
    assert batched_inputs(freed) == ("a", "b")


@pytest.mark.parametrize("limit", ["float", "float[1]"])
@pytest.mark.parametrize("lead", ["1", "n"])
def test_an_input_that_holds_for_all_samples_stays(parse, evaluate, limit, lead):
    freed = free_batch(parse(f"({limit} limit, float[{lead}, 3] x) => (float[{lead}, 3] y) {{ y = Min(x, limit) }}"))
    assert batched_inputs(freed) == ("x",)
    assert "batch" not in shapes(freed)["limit"]
    x, bound = np.arange(6, dtype=np.float32).reshape(2, 3), np.full([1] * ("1" in limit), 2, np.float32)
    np.testing.assert_array_equal(evaluate(freed, x=x, limit=bound), np.minimum(x, 2))


@pytest.mark.parametrize("shape", ["n, n", "n, batch", "n, ?"])
def test_no_other_dimension_has_the_name_of_the_batch(parse, shape):
    freed = free_batch(parse(f"(float[{shape}] x) => (float[a, b] y) {{ y = Relu(x) }}"))
    assert shapes(freed)["x"] == ["batch", "x_1"]


def test_other_free_dimensions_keep_their_names(parse):
    freed = free_batch(parse("(int64[n, length] ids) => (int64[n, length] y) { y = Neg(ids) }"))
    assert shapes(freed) == {"ids": ["batch", "length"], "y": ["batch", "length"]}


@pytest.mark.parametrize("shape", [[1, 8, 8], [1, -1, 4], [1, 64]])
def test_a_reshape_that_asks_for_the_fixed_batch_follows_it(parse, evaluate, shape):
    model = parse("(float[1, 4, 16] x) => (float[a, b, c] y) { y = Reshape(x, s) }".replace(
        "a, b, c", ", ".join("abc"[: len(shape)])), s=np.array(shape))  # fmt: skip
    x = np.arange(192, dtype=np.float32).reshape(3, 4, 16)
    np.testing.assert_array_equal(evaluate(free_batch(model), x=x), x.reshape(3, *shape[1:]))


def test_boxes_of_a_detector_come_per_sample(parse, evaluate):
    text = """(float[1, 12, 4, 4] x) => (float[1, 32, 6] boxes) <int64[4] s = {1, 2, 6, 16}, int64[3] t = {1, 32, 6}>
    { heads = Reshape(x, s)  last = Transpose<perm = [0, 1, 3, 2]>(heads)  boxes = Reshape(last, t) }"""
    freed = free_batch(parse(text))
    assert shapes(freed)["boxes"] == ["batch", "32", "6"]
    x = np.arange(384, dtype=np.float32).reshape(2, 12, 4, 4)
    alone = [evaluate(parse(text), x=sample[None]) for sample in x]
    np.testing.assert_array_equal(evaluate(freed, x=x), np.concatenate(alone))


BRANCHES = """(float[1, 4] x) => (float[1, 4] y) <float zero = {0}> {
  h = Neg(x)  m = ReduceMax<keepdims = 0>(x)  c = Greater(m, zero)
  i = If(c) < then_branch = a () => (float[1, 4] z) { z = Identity(h) }, else_branch = b () => (z) { z = Relu(h) } >
  y = Exp(i)
}"""
LOOP = """(float[1, 4] x) => (float[1, 4] y) <int64 three = {3}, bool on = {1}> {
  h = Neg(x)
  l = Loop(three, on, h) <body = b (int64 i, bool d, float[1, 4] s) => (bool e, float[1, 4] t) {
    e = Identity(d)  t = Mul(s, h)
  }>
  y = Exp(l)
}"""


@pytest.mark.parametrize("text", [BRANCHES, LOOP], ids=["If", "Loop"])
def test_behind_control_flow_the_batch_is_free_as_well(parse, evaluate, text):
    freed = free_batch(parse(text))
    assert shapes(freed)["y"] == ["batch", "4"]
    x = np.linspace(0.1, 1, 8, dtype=np.float32).reshape(2, 4)
    alone = [evaluate(parse(text), x=sample[None]) for sample in x]
    np.testing.assert_array_equal(evaluate(freed, x=x), np.concatenate(alone))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(float[1, 4] x) => (float y) { [mean] y = ReduceMean<keepdims = 0>(x) }", "output 'y'.*node 'mean'"),
        ("(float[1, 4] x) => (float[4, 1] y) { [turn] y = Transpose(x) }", "output 'y'.*node 'turn'"),
        ("(float[1, 4] x) => (float[2, 4] y) <int64[2] s = {2, 4}> { [more] y = Expand(x, s) }", "node 'more'"),
        ("(float x) => (float y) { y = Relu(x) }", "no input has a dimension for the batch"),
        ("(float[n, k] x, float[k] z) => (float[n, k] y) { y = Add(x, z) }", "input 'z' leads with 'k'"),
    ],
)
def test_what_has_no_batch_is_refused_by_name(parse, text, said):
    with pytest.raises(ModelError, match=said):
        free_batch(parse(text))
