from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("openvino")

from edgeprune.backends.openvino.profile import effective, times
from edgeprune.backends.openvino.run import load
from edgeprune.bundle import LayerPlan
from edgeprune.graph.operators import Operator
from edgeprune.worker.probe import probe

MLP = """g (float[batch,{a}] x) => (float[batch,{c}] y) {{
  [q0] q0 = QuantizeLinear(x, s, z)
  [d0] d0 = DequantizeLinear(q0, s, z)
  [k0] k0 = DequantizeLinear<axis=0>(w0, w0_scale, w0_zero)
  [fc0] h = Gemm<transB=1>(d0, k0, b0)
  [relu] r = Relu(h)
  [fc1] y = Gemm<transB=1>(r, w1, b1)
}}"""
BF16 = "avx512_bf16" in probe()["isa"]


def evidence(path, hint="f32"):
    with load({"model": path}, {"INFERENCE_PRECISION_HINT": hint}, threads=1, batch=1) as runner:
        return runner.evidence()


def precisions(layers):
    return [layer.effective for layer in layers]


def test_a_float_network_ran_in_float32_though_the_cpu_has_bfloat16(float_model, plans):
    assert precisions(effective(evidence(float_model), plans("fp32"))) == ["fp32"] * 4


def test_asked_for_bfloat16_the_layers_say_what_the_cpu_could(float_model, plans):
    layers = effective(evidence(float_model, "bf16"), plans("bf16"))
    assert set(precisions(layers)) <= ({"bf16"} if BF16 else {"bf16", "fp32"})
    assert all(bool(layer.reason) == layer.fell_back for layer in layers)


@pytest.mark.parametrize("model", ["unsigned_model", "signed_model"])
def test_quantized_layers_ran_in_8_bits(model, plans, request):
    layers = effective(evidence(request.getfixturevalue(model)), plans("int8"))
    assert precisions(layers) == ["int8"] * 4


@pytest.mark.parametrize(("a", "b", "c"), [(64, 32, 10), (784, 512, 100)])
def test_layers_that_share_one_operator_are_told_apart(write_onnx, a, b, c):
    """Small products in a row become one Subgraph, large ones stay apart: one is in 8 bits, the other in float."""
    random = np.random.default_rng(0)
    arrays = {
        "s": np.float32(1 / 127),
        "z": np.uint8(0),
        "w0": random.integers(-127, 128, (b, a), np.int8),
        "b0": np.zeros(b, np.float32),
        "w0_scale": np.full(b, 0.001, np.float32),
        "w0_zero": np.zeros(b, np.int8),
        "w1": random.normal(0, 0.1, (c, b)).astype(np.float32),
        "b1": np.zeros(c, np.float32),
    }
    planned = (LayerPlan("fc0", "Gemm", "w0", "int8"), LayerPlan("fc1", "Gemm", "w1", "fp32"))
    path = write_onnx(MLP.format(a=a, c=c), **arrays)
    assert precisions(effective(evidence(path), planned)) == ["int8", "fp32"]


def test_compressed_weights_alone_are_not_8_bit_arithmetic(write_onnx):
    """`runtimePrecision` says i8 for such an operator; the primitive says float."""
    text = """g (float[batch,64] x) => (float[batch,32] y) {
      [k] k = DequantizeLinear<axis=0>(w, w_scale, w_zero)
      [fc] y = Gemm<transB=1>(x, k, b)
    }"""
    arrays = {
        "w": np.random.default_rng(0).integers(-127, 128, (32, 64), np.int8),
        "w_scale": np.full(32, 0.001, np.float32),
        "w_zero": np.zeros(32, np.int8),
        "b": np.zeros(32, np.float32),
    }
    layer = effective(evidence(write_onnx(text, **arrays)), (LayerPlan("fc", "Gemm", "w", "int8"),))[0]
    assert layer.effective == "fp32"
    assert layer.fell_back
    assert layer.reason


def test_a_depthwise_weight_loses_its_name_and_the_layer_is_found_by_its_own(write_onnx):
    text = """g (float[batch,16,8,8] x) => (float[batch,16,8,8] y) {
      [depthwise] c = Conv<pads=[1,1,1,1], group=16>(x, w, b)
      [relu] y = Relu(c)
    }"""
    arrays = {"w": np.ones((16, 1, 3, 3), np.float32), "b": np.ones(16, np.float32)}
    layers = effective(evidence(write_onnx(text, **arrays)), (LayerPlan("depthwise", "Conv", "w", "fp32"),))
    assert precisions(layers) == ["fp32"]


def test_nameless_recurrent_layers_are_told_only_where_all_ran_alike():
    def said(*kinds: str) -> dict:
        nodes = [
            {"name": f"LSTMSequence_{i}", "type": "RNNSeq", "primitive": f"ref_any_{kind}", "layers": [], "inputs": []}
            for i, kind in enumerate(kinds)
        ]
        return {"version": "1", "hint": "f32", "nodes": nodes}

    planned = tuple(LayerPlan(name, "LSTM", name, "fp32") for name in ("first", "second"))
    assert precisions(effective(said("f32", "f32"), planned)) == ["fp32", "fp32"]
    assert precisions(effective(said("f32", "f32", "f32"), planned)) == ["fp32", "fp32"]  # one has two directions
    assert precisions(effective(said("f32", "i8"), planned)) == ["unknown", "unknown"]
    assert precisions(effective(said("f32"), planned)) == ["unknown", "unknown"]


def test_a_layer_that_nothing_tells_of_is_unknown(float_model):
    layer = effective(evidence(float_model), (LayerPlan("elsewhere", "Gemm", "w9", "int8"),))[0]
    assert layer.effective == "unknown"
    assert layer.fell_back


def test_recurrent_layers_get_their_times_in_order():
    def kernel(name, type_, us):
        return {"name": name, "type": type_, "layers": [name], "us": us}

    def operator(name, kind):
        return Operator(name, kind, "", frozenset({name}), "", 1, 1, 1, 1)

    graph = [operator("table", "Gather"), operator("first", "LSTM"), operator("second", "LSTM + Add")]
    nodes = [kernel("table", "Gather", 1.0), *(kernel(f"LSTMSequence_{i}", "RNNSeq", 10.0 * i) for i in (1, 2, 3, 4))]
    assert times({"nodes": nodes}, graph) == {"table": 1.0, "first": 30.0, "second": 70.0}  # two directions each
    assert times({"nodes": nodes[:-1]}, graph) == {"table": 61.0}  # nothing tells whose they are
