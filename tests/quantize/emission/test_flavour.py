import numpy as np
import pytest

from edgeprune.quantize.emission.flavour import FLAVOURS, SEVEN_BITS, fitted, flavour_for
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.spec import LayerQuant, QuantPlan, Range
from edgeprune.targets.load import load_target

READER = """(int64[N, 7] ids) => (float[N, 1, 2] y) {
  x = Gather(table, ids)  t = Transpose<perm = [1, 0, 2]>(x)  h, last = LSTM<hidden_size = 5>(t, w, r)
  b = Transpose<perm = [1, 0, 2]>(last)  y = MatMul(b, head)
}"""
SHAPES = {"table": (50, 3), "w": (1, 20, 3), "r": (1, 20, 5), "head": (5, 2)}


@pytest.fixture
def reader(parse):
    return parse(READER, **{name: np.ones(shape, np.float32) for name, shape in SHAPES.items()})


@pytest.mark.parametrize(("flavour", "floats"), [("ort", set()), ("openvino", {"w"}), ("tensorrt", {"w", "table"})])
def test_a_runtime_gets_in_float_what_it_could_only_run_in_float(reader, flavour, floats):
    plan = fitted(uniform_plan(reader, "int8"), reader, FLAVOURS[flavour])
    left = {weight: layer.reason for weight, layer in plan.layers.items() if layer.precision == "fp32"}
    assert left.keys() == floats
    assert all(left.values())


def test_a_layer_that_the_plan_leaves_in_float_keeps_its_own_reason(reader):
    plan = QuantPlan(dict(uniform_plan(reader, "int8").layers) | {"w": LayerQuant("fp32", "too lossy")})
    assert fitted(plan, reader, FLAVOURS["openvino"]).layers["w"].reason == "too lossy"


def test_an_lstm_with_another_layout_stays_float(parse):
    text = "(float[N, 7, 3] x) => (float[N, 7, 1, 5] y) { y = LSTM<hidden_size = 5, layout = 1>(x, w, r) }"
    model = parse(text, w=np.ones((1, 20, 3), np.float32), r=np.ones((1, 20, 5), np.float32))
    assert "time first" in fitted(uniform_plan(model, "int8"), model, FLAVOURS["ort"]).layers["w"].reason


def test_recurrent_layers_that_share_their_weights_stay_float(parse):
    text = """(float[7, N, 3] x) => (float[7, 1, N, 3] y) {
        a = LSTM<hidden_size = 3>(x, w, r)  s = Squeeze(a, one)  y = LSTM<hidden_size = 3>(s, w, r)
    }"""
    model = parse(text, w=np.ones((1, 12, 3), np.float32), r=np.ones((1, 12, 3), np.float32), one=np.array([1]))
    assert "shared" in fitted(uniform_plan(model, "int8"), model, FLAVOURS["ort"]).layers["w"].reason


@pytest.mark.parametrize("between", ["c = Relu(m)", "t = Flatten(x)  r = Relu(m)  c = Concat<axis = 1>(t, r)"])
def test_openvino_gets_a_layer_behind_a_maximum_in_float(parse, between):
    text = (
        f"(float[N, 7, 4] x) => (float[N, 2] y) {{ m = ReduceMax<keepdims = 0>(x, one)  {between}  y = MatMul(c, w) }}"
    )
    model = parse(text, w=np.ones((4 if "Flatten" not in between else 32, 2), np.float32), one=np.array([1]))
    plan = uniform_plan(model, "int8")
    assert "ReduceMax" in fitted(plan, model, FLAVOURS["openvino"]).layers["w"].reason
    assert fitted(plan, model, FLAVOURS["ort"]).layers["w"].precision == "int8"


def test_without_vnni_second_factors_keep_to_seven_bits_as_weights_do():
    for flavour in FLAVOURS.values():
        q = flavour.reduced().right(Range(-3.2, 1.0))
        assert 3.2 / float(q.scale) == pytest.approx(64)
        assert int(q.zero_point) == 0


def test_a_processor_without_vnni_leaves_the_weights_of_a_gpu_alone():
    target = load_target("gpu").model_copy(update={"isa": ("avx2",)})
    assert target.reduced_range
    assert flavour_for("tensorrt", target).weight_limit == FLAVOURS["tensorrt"].weight_limit
    assert flavour_for("ort", target).weight_limit == SEVEN_BITS
