import re

import numpy as np
import onnx
import onnx.parser
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
    "an identity at the end": (f"{PLANE} {{ r = Relu(x)  y = Identity(r) }}", ["Relu"]),
    "an identity alone": (f"{PLANE} {{ y = Identity(x) }}", ["Identity"]),
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


@pytest.mark.parametrize(
    ("opset", "node"),
    [
        (24, "[odd] y = Swish(x)"),
        (23, "[odd] y = RMSNormalization(x, x)"),
        (23, "[odd] y = Attention(x, x, x)"),
        (21, "[odd] q = QuantizeLinear<output_dtype = 5>(x, s)  y = DequantizeLinear(q, s)"),
    ],
)
def test_what_opset_20_cannot_express_is_refused_by_node(parse, opset, node):
    with pytest.raises(ModelError, match=f"opset {opset} cannot be turned into 20.*node 'odd'.*export it with that"):
        clean(parse(f"{PLANE} {{ {node} }}", opset=opset, s=np.float32(1)))


def since(*forms: tuple[int, str]) -> list[tuple[int, str]]:
    """Every opset that is read, with the form that it wants: the last of those that begin at or before it."""
    return [(opset, [text for first, text in forms if first <= opset][-1]) for opset in range(forms[0][0], 25)]


CHANGED = {
    "Clip": since((9, "y = Clip<min = -0.5, max = 0.5>(x)"), (11, "y = Clip(x, low, high)")),
    "Slice": since((9, "y = Slice<starts = [1], ends = [3], axes = [2]>(x)"), (10, "y = Slice(x, one, three, two)")),
    "Pad": since((9, "y = Pad<pads = [0, 0, 1, 1, 0, 0, 1, 1]>(x)"), (11, "y = Pad(x, pads)")),
    "Resize": since(
        (9, 'y = Upsample<mode = "nearest">(x, scales)'),
        (10, 'y = Resize<mode = "nearest">(x, scales)'),
        (11, 'y = Resize<mode = "linear">(x, none, scales)'),
    ),
    "ReduceSum": since((9, "y = ReduceSum<axes = [2]>(x)"), (13, "y = ReduceSum(x, two)")),
    "ReduceMean": since((9, "y = ReduceMean<axes = [2, 3]>(x)"), (18, "y = ReduceMean(x, plane)")),
    "Split": since((9, "a, y = Split<axis = 1, split = [1, 3]>(x)"), (13, "a, y = Split<axis = 1>(x, one_three)")),
    "Softmax": since((9, "y = Softmax<axis = 1>(x)")),
    "MatMul": since((9, "y = MatMul(x, square)")),
    "TopK": since((9, "y, i = TopK<k = 2>(x)"), (10, "y, i = TopK(x, two)")),
}
CONSTANTS = {
    "low": np.float32(-0.5),
    "high": np.float32(0.5),
    "one": np.array([1]),
    "two": np.array([2]),
    "three": np.array([3]),
    "plane": np.array([2, 3]),
    "one_three": np.array([1, 3]),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "none": np.zeros(0, np.float32),
    "scales": np.array([1, 1, 2, 2], np.float32),
    "square": weight(6, 6),
}


@pytest.mark.parametrize("op", CHANGED)
def test_operators_that_changed_arrive_at_opset_20_from_every_opset(parse, evaluate, op):
    for opset, node in CHANGED[op]:
        used = {name: array for name, array in CONSTANTS.items() if re.search(rf"\b{name}\b", node.partition("(")[2])}
        before = parse(f"{PLANE} {{ {node} }}", opset=opset, **used)
        after = clean(before)
        onnx.checker.check_model(ir.to_proto(after), full_check=True)
        assert_same_numbers(evaluate, before, after)


FOREIGN = {
    "com.microsoft": "node 'odd' is com.microsoft.Gelu, which only ONNX Runtime has",
    "of.mine": "node 'odd' is of.mine.Gelu, which no runtime here has",
}


@pytest.mark.parametrize("domain", FOREIGN)
def test_operators_of_other_domains_are_refused_by_node(domain):
    text = f"""<ir_version: 8, opset_import: ["" : 17, "{domain}" : 1]>
    main (float[N, 4] x) => (float[N, 4] y) {{ h = Relu(x)  [odd] y = {domain}.Gelu(h) }}"""
    with pytest.raises(ModelError, match=FOREIGN[domain]):
        clean(ir.from_proto(onnx.parser.parse_model(text)))


def test_a_function_that_the_model_brings_along_is_written_out(evaluate):
    text = """<ir_version: 8, opset_import: ["" : 17, "of.mine" : 1]>
    main (float[N, 4] x) => (float[N, 4] y) { h = Relu(x)  y = of.mine.Twice(h) }
    <domain: "of.mine", opset_import: ["" : 17]> Twice (a) => (b) { b = Add(a, a) }"""
    after = clean(ir.from_proto(onnx.parser.parse_model(text)))
    assert ops(after) == ["Relu", "Add"]
    x = weight(2, 4)
    np.testing.assert_array_equal(evaluate(after, x=x), 2 * np.maximum(x, 0))


def test_sequences_are_refused_by_node(parse):
    text = "(float[2] x) => (float[4] y) { [odd] s = SequenceConstruct(x, x)  y = ConcatFromSequence<axis = 0>(s) }"
    with pytest.raises(ModelError, match=r"node 'odd' \(SequenceConstruct\) works on sequences"):
        clean(parse(text))


@pytest.mark.parametrize(("kind", "dtype"), [("float16", np.float16), ("double", np.float64)])
def test_weights_of_another_float_type_are_refused_with_what_to_do(parse, kind, dtype):
    text = f"({kind}[N, 4] x) => ({kind}[N, 2] y) {{ [product] y = MatMul(x, w) }}"
    with pytest.raises(ModelError, match=r"node 'product' has weights in \w+: give the float32 model"):
        clean(parse(text, w=np.ones((4, 2), dtype)))


BRANCHES = """(bool c, float[N, 4] x) => (float[N, 4] y) {
  h = MatMul(x, w)
  y = If(c) <
    then_branch = a () => (z) { relu = Neg(h)  z = MatMul(relu, w) }, else_branch = b () => (z) { z = Identity(h) }
  >
}"""
LOOP = """(bool c, float[N, 4] x) => (float[N, 4] y) <int64 three = {3}> {
  h = MatMul(x, w)
  y = Loop(three, c, h) <body = b (int64 i, bool d, float[N, 4] s) => (bool e, float[N, 4] t) {
    e = Identity(d)  u = MatMul(s, w)  t = Add(u, h)
  }>
}"""


@pytest.mark.parametrize("text", [BRANCHES, LOOP], ids=["If", "Loop"])
@pytest.mark.parametrize("opset", [13, 20, 22])
def test_what_stands_inside_an_operator_is_left_alone(parse, evaluate, text, opset):
    before = parse(text, opset=opset, w=weight(4, 4))
    after = clean(before)
    assert len(weighted_layers(after)) == 1
    x = weight(2, 4)
    for c in (True, False):
        feeds = {"c": np.array(c), "x": x}
        np.testing.assert_allclose(evaluate(after, **feeds), evaluate(before, **feeds), rtol=1e-5)


def test_a_weight_that_is_listed_as_an_input_is_one_no_more(parse):
    model = parse("(float[N, 4] x, float[4, 2] w) => (float[N, 2] y) { y = MatMul(x, w) }", w=weight(4, 2))
    after = clean(model)
    assert [value.name for value in after.graph.inputs] == ["x"]
    assert [layer.weight for layer in weighted_layers(after)] == ["w"]


def test_nodes_of_one_name_get_names_of_their_own(parse):
    after = clean(parse(f"{PLANE} {{ [same] h = Relu(x)  [same] y = Neg(h) }}"))
    assert [node.name for node in after.graph] == ["relu", "neg"]


def test_a_weight_without_a_name_is_called_like_the_bias_behind_it(parse):
    text = "(float[N, 5, 4] x) => (float[N, 5, 4] y) { h = MatMul(x, val_92)  y = Add(h, b) }"
    before = parse(text, val_92=weight(4, 4), b=weight(4))
    before.graph.initializers["b"].name = "encoder.layer.0.query.bias"
    (layer,) = weighted_layers(clean(before))
    assert (layer.name, layer.weight) == ("encoder.layer.0.query", "encoder.layer.0.query.weight")


def test_metadata_is_left_behind(parse):
    before = parse(f"{PLANE} {{ y = Relu(x) }}")
    before.metadata_props["stack"] = "/home/someone/model.py"
    before.graph[0].metadata_props["stack"] = "/home/someone/model.py"
    before.graph[0].doc_string = "/home/someone/model.py"
    assert b"someone" not in ir.to_proto(clean(before)).SerializeToString()
