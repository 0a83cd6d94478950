from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.operators import operators
from edgeprune.latency_table import Entry, Key, LatencyTable
from edgeprune.quantize.allocation.latency import deciding, layer_latencies, predict
from edgeprune.quantize.emission.flavour import FLAVOURS
from edgeprune.quantize.emission.recurrent import quantize_lstm
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.spec import LayerQuant, QuantPlan

TEXT = """(float[batch,8,8,8] x) => (float[batch,10] y) {
  [conv1] a = Conv<pads=[1,1,1,1]>(x, w1)
  [relu1] b = Relu(a)
  [conv2] c = Conv<pads=[1,1,1,1]>(b, w2)
  [pool] p = GlobalAveragePool(c)
  [flat] f = Flatten(p)
  [fc] y = MatMul(f, w3)
}"""
WEIGHTS = {
    "w1": np.ones((8, 8, 3, 3), np.float32),
    "w2": np.ones((16, 8, 3, 3), np.float32),
    "w3": np.ones((16, 10), np.float32),
}
SPEED = {"fp32": 1e-6, "int8": 4e-7}
"""Milliseconds of each number that is read, multiplied or written."""


@pytest.fixture
def model(parse):
    return parse(TEXT, **WEIGHTS)


def true(operator, precision):
    return SPEED[precision] * (operator.macs + operator.numbers)


def table(model, precisions=("fp32", "int8")):
    entries = [
        Entry(Key("ort", one.kind, one.shapes, precision), "b", true(one, precision), one.work(precision), 1000, "")
        for one in operators(model)
        for precision in precisions
    ]
    return LatencyTable("cpu", "M", "e", tuple(entries))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_model_that_was_measured_takes_what_its_operators_took(model, precision):
    found = predict(model, uniform_plan(model, precision), FLAVOURS["ort"], table(model), "ort")
    assert found.ms == pytest.approx(sum(true(one, precision) for one in operators(model)))
    assert (found.interpolated, found.unknown) == (0.0, ())


def test_what_stands_behind_a_layer_has_its_precision(model):
    by_name = {layer.name: layer.weight for layer in weighted_layers(model)}
    assert deciding(operators(model), by_name) == {"conv1": "w1", "conv2": "w2", "pool": "w2", "fc": "w3"}


@pytest.mark.parametrize("narrow", [(), ("w1",), ("w2",), ("w3",), ("w1", "w3"), ("w1", "w2", "w3")])
def test_what_the_layers_take_adds_up_to_what_the_model_takes(model, narrow):
    known = table(model)
    layers = layer_latencies(model, known, "ort")
    plan = QuantPlan({weight: LayerQuant("int8" if weight in narrow else "fp32") for weight in WEIGHTS})
    found = predict(model, plan, FLAVOURS["ort"], known, "ort")
    assert found.ms == pytest.approx(sum(layers[weight][one.precision] for weight, one in plan.layers.items()))


def test_a_precision_of_which_something_is_unknown_is_left_out(model):
    found = layer_latencies(model, table(model, ("fp32",)), "ort")
    assert {weight: set(times) for weight, times in found.items()} == {weight: {"fp32"} for weight in WEIGHTS}
    assert predict(model, uniform_plan(model, "int8"), FLAVOURS["ort"], table(model, ("fp32",)), "ort").ms is None


def test_four_bits_that_are_cast_when_the_file_is_opened_take_what_eight_take(model):
    four, eight = (
        predict(model, uniform_plan(model, one), FLAVOURS["ort"], table(model), "ort") for one in ("int4", "int8")
    )
    assert four == eight


def test_a_layer_that_a_runtime_keeps_in_float_takes_what_float_takes(model):
    unwilling = replace(FLAVOURS["ort"], floats={"MatMul": "for this test"})
    found = predict(model, uniform_plan(model, "int8"), unwilling, table(model), "ort")
    expected = sum(true(one, "fp32" if one.name == "fc" else "int8") for one in operators(model))
    assert found.ms == pytest.approx(expected)


def test_other_widths_are_interpolated(model, parse):
    narrower = parse(TEXT, **{**WEIGHTS, "w2": np.ones((12, 8, 3, 3), np.float32), "w3": WEIGHTS["w3"][:12]})
    found = predict(narrower, uniform_plan(narrower, "int8"), FLAVOURS["ort"], table(model), "ort")
    own = sum(true(one, "int8") for one in operators(narrower))
    whole = sum(true(one, "int8") for one in operators(model))
    assert 0 < found.interpolated < 1
    assert abs(found.ms - own) < abs(whole - own)


def test_an_integer_lstm_is_the_float_one_in_another_precision(parse):
    text = "(float[3,1,4] x) => (float[3,1,1,2] y) { [lstm] y = LSTM<hidden_size=2>(x, w, r) }"
    model = parse(text, w=np.ones((1, 8, 4), np.float32), r=np.ones((1, 8, 2), np.float32))
    (real,) = operators(model)
    assert (real.kind, real.shapes, real.macs) == ("LSTM", "3x1x4 > 3x1x1x2", 3 * (4 + 2) * 8)
    quantize_lstm(model, model.graph[0], 127, four=False)
    (integer,) = operators(model)
    assert (integer.name, integer.kind, integer.shapes) == (real.name, real.kind, real.shapes)
    assert integer.work("int8") == real.work("int8")
