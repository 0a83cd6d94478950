import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.errors import ConfigError, ModelError
from edgeprune.graph.layers import weighted_layers
from edgeprune.quantize.emission.flavour import FLAVOURS
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.plan import check, uniform_plan
from edgeprune.quantize.spec import LayerQuant, QuantPlan


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_uniform_plan_has_one_reasoned_entry_for_each_weight(digits, precision):
    plan = uniform_plan(digits.model, precision)
    assert list(plan.layers) == [layer.weight for layer in weighted_layers(digits.model)]
    assert {layer.precision for layer in plan.layers.values()} == {precision}
    assert all(layer.reason for layer in plan.layers.values())


def test_a_plan_must_name_each_weight_and_no_other(digits):
    layers = dict(uniform_plan(digits.model, "int8").layers)
    with pytest.raises(ConfigError, match=r"names weights the model lacks: other\.weight"):
        check(QuantPlan(layers | {"other.weight": LayerQuant("int8")}), digits.model)
    del layers["conv2.weight"]
    with pytest.raises(ConfigError, match=r"says nothing about conv2\.weight"):
        check(QuantPlan(layers), digits.model)


def test_a_model_that_is_quantized_already_is_refused(digits):
    plan = uniform_plan(digits.model, "int8")
    quantized = emit(digits.model, plan, digits.ranges, FLAVOURS["ort"])
    with pytest.raises(ModelError, match="quantized already: give the float model"):
        uniform_plan(quantized, "int8")


def test_a_model_without_weights_is_refused(parse):
    with pytest.raises(ModelError, match="nothing to quantize"):
        uniform_plan(parse("(float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"), "int8")


def test_a_half_precision_model_is_refused():
    text = '<ir_version: 8, opset_import: ["" : 20]> main (float16[N, 4] x) => (float16[N, 4] y) { y = MatMul(x, w) }'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 4), np.float16), "w"))
    with pytest.raises(ModelError, match="only float32"):
        uniform_plan(ir.from_proto(proto), "int8")
