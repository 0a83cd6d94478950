import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.errors import ModelError
from edgeprune.graph.cleanup import clean
from edgeprune.graph.layers import weighted_layers

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(2, 4, 6, 6)).astype(np.float32)
PLANE = "(float[N, 4, 6, 6] x) => (float[N, C, H, W] y)"


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def weight(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def assert_same_numbers(evaluate, before: ir.Model, after: ir.Model) -> None:
    np.testing.assert_allclose(evaluate(after, x=IMAGE), evaluate(before, x=IMAGE), atol=1e-5)


FORMS = {
    "a mean over the plane": (f"{PLANE} {{ y = ReduceMean<axes = [2, 3]>(x) }}", ["GlobalAveragePool"]),
    "counted from the end": (f"{PLANE} {{ y = ReduceMean<axes = [-1, -2]>(x) }}", ["GlobalAveragePool"]),
    "a flat mean": (
        "(float[N, 4, 6, 6] x) => (float[N, C] y) { y = ReduceMean<axes = [2, 3], keepdims = 0>(x) }",
        ["GlobalAveragePool", "Flatten"],
    ),
    "a mean over channels": (f"{PLANE} {{ y = ReduceMean<axes = [1]>(x) }}", ["ReduceMean"]),
    "a pool of the whole plane": (f"{PLANE} {{ y = AveragePool<kernel_shape = [6, 6]>(x) }}", ["GlobalAveragePool"]),
    "a pool of less": (f"{PLANE} {{ y = AveragePool<kernel_shape = [3, 3]>(x) }}", ["AveragePool"]),
    "a padded pool": (f"{PLANE} {{ y = AveragePool<kernel_shape = [6, 6], pads = [0, 0, 1, 1]>(x) }}", ["AveragePool"]),
    "relu behind a pool": (f"{PLANE} {{ p = MaxPool<kernel_shape = [2, 2]>(x)  y = Relu(p) }}", ["Relu", "MaxPool"]),
    "a pool read twice": (
        f"{PLANE} {{ p = MaxPool<kernel_shape = [2, 2]>(x)  r = Relu(p)  y = Sub(r, p) }}",
        ["MaxPool", "Relu", "Sub"],
    ),
    "a dead end": (f"{PLANE} {{ i = Identity(x)  unused = Exp(i)  y = Relu(i) }}", ["Relu"]),
}


@pytest.mark.parametrize(("text", "expected"), FORMS.values(), ids=FORMS)
def test_a_graph_takes_the_form_that_fuses_and_computes_the_same(parse, evaluate, text, expected):
    before = parse(text)
    after = clean(before)
    assert ops(after) == expected
    assert [value.name for value in after.graph.outputs] == ["y"]
    assert_same_numbers(evaluate, before, after)


def test_batch_normalization_goes_into_the_convolution_whose_weight_keeps_its_name(parse, evaluate):
    before = parse(
        f"{PLANE} {{ a = Conv(x, w)  y = BatchNormalization(a, s, b, m, v) }}",
        w=weight(5, 4, 3, 3), s=weight(5), b=weight(5), m=weight(5), v=np.abs(weight(5)),
    )  # fmt: skip
    before.graph.initializers["w"].name = "stem.weight"
    after = clean(before)
    assert [(layer.name, layer.weight) for layer in weighted_layers(after)] == [("stem", "stem.weight")]
    assert ops(after) == ["Conv"]
    assert_same_numbers(evaluate, before, after)


def test_a_weight_that_a_factor_went_into_keeps_its_name(parse, evaluate):
    before = parse(f"{PLANE} {{ h = Mul(x, half)  y = Conv(h, w) }}", half=np.float32(0.5), w=weight(5, 4, 3, 3))
    after = clean(before)
    assert [layer.weight for layer in weighted_layers(after)] == ["w"]
    assert_same_numbers(evaluate, before, after)


def test_nodes_that_only_a_counter_named_are_named_after_their_weights_or_kinds(parse):
    text = f"""{PLANE} {{
        [node_Conv_3] c = Conv(x, v)
        [Relu_7] r = Relu(c)
        [myname] d = Conv(r, w)
        s = Relu(d)
        y = GlobalAveragePool(s)
    }}"""
    before = parse(text, v=weight(4, 4, 1, 1), w=weight(4, 4, 1, 1))
    before.graph.initializers["v"].name = "block.1.conv.weight"
    after = clean(before)
    assert [node.name for node in after.graph] == ["block.1.conv", "relu", "myname", "relu_2", "global_average_pool"]
    assert [node.outputs[0].name for node in after.graph] == ["block.1.conv", "relu", "d", "relu_2", "y"]


def test_a_clean_graph_stays_as_it_is(parse):
    text = f"{PLANE} {{ c = Conv(x, w)  p = MaxPool<kernel_shape = [2, 2]>(c)  y = Relu(p) }}"
    once = clean(parse(text, w=weight(4, 4, 1, 1)))
    assert ir.to_proto(clean(once)) == ir.to_proto(once)


@pytest.mark.parametrize("opset", [9, 13, 17, 20, 22, 24])
def test_a_graph_of_any_opset_arrives_at_opset_20(parse, evaluate, opset):
    before = parse(
        f"{PLANE} {{ a = Conv(x, w, b)  y = BatchNormalization(a, s, b, m, v) }}", opset=opset,
        w=weight(5, 4, 3, 3), s=weight(5), b=weight(5), m=weight(5), v=np.abs(weight(5)),
    )  # fmt: skip
    after = clean(before)
    assert after.opset_imports == {"": 20}
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert_same_numbers(evaluate, before, after)


@pytest.mark.parametrize(("opset", "node"), [(24, "y = Swish(x)"), (23, "y = RMSNormalization(x, x)")])
def test_what_opset_20_cannot_express_is_refused(parse, opset, node):
    with pytest.raises(ModelError, match=f"opset {opset} cannot be turned into 20"):
        clean(parse(f"{PLANE} {{ {node} }}", opset=opset))


def test_metadata_is_left_behind(parse):
    before = parse(f"{PLANE} {{ y = Relu(x) }}")
    before.metadata_props["stack"] = "/home/someone/model.py"
    before.graph[0].metadata_props["stack"] = "/home/someone/model.py"
    before.graph[0].doc_string = "/home/someone/model.py"
    assert b"someone" not in ir.to_proto(clean(before)).SerializeToString()
