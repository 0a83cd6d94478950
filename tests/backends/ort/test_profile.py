from __future__ import annotations

import platform

import pytest

from edgeprune.backends.ort.profile import effective
from edgeprune.backends.ort.run import load


def evidence(path):
    with load({"model": path}, {}, threads=1, batch=1) as runner:
        return runner.evidence()


def precisions(layers):
    return [layer.effective for layer in layers]


def test_a_float_network_ran_in_float(float_model, plans):
    assert precisions(effective(evidence(float_model), plans("fp32"))) == ["fp32"] * 4


def test_unsigned_activations_become_integer_kernels(unsigned_model, plans):
    layers = effective(evidence(unsigned_model), plans("int8"))
    assert precisions(layers) == ["int8"] * 4
    assert not any(layer.fell_back or layer.reason for layer in layers)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86 kernels want unsigned activations")
def test_signed_activations_fall_back_to_float_and_say_so(signed_model, plans):
    conv1, *_ = effective(evidence(signed_model), plans("int8"))
    assert (conv1.intended, conv1.effective) == ("int8", "fp32")
    assert "ran in float between Q and DQ" in conv1.reason


def test_the_reason_of_a_layer_that_was_left_in_float_is_kept(float_model, plans):
    first, *rest = plans("fp32")
    planned = type(first)(first.name, first.op, first.weight, "fp32", "too sensitive")
    assert effective(evidence(float_model), (planned, *rest))[0].reason == "too sensitive"


def test_a_layer_that_nothing_tells_of_is_unknown(float_model, plans):
    first, *rest = plans("fp32")
    other = type(first)("elsewhere", "Gemm", "w9", "fp32")
    layer = effective(evidence(float_model), (other, *rest))[0]
    assert layer.effective == "unknown"
    assert "executed no node" in layer.reason


@pytest.mark.parametrize(
    ("name", "op", "dtype", "precision"),
    [
        ("fused fc", "FusedGemm", "float", "fp32"),
        ("fc/MatMulAddFusion", "Gemm", "float", "fp32"),
        ("fused fc/MatMulAddFusion", "FusedGemm", "float", "fp32"),
        ("fc_token_12", "QLinearConv", "uint8", "int8"),
        ("fc", "MatMulIntegerToFloat", "int8", "int8"),
        ("fc", "QLinearMatMul", "uint8", "int8"),
        ("fc", "QGemm", "uint8", "int8"),
        ("fc", "DynamicQuantizeLSTM", "float", "int8"),
        ("fc", "Gather", "int8", "int8"),
        ("fc", "LSTM", "float", "fp32"),
        ("fc", "DynamicQuantizeMatMul", "float", "int8"),
        ("fc", "MatMulNBits", "float", "int4"),
        ("fc", "Conv", "float16", "fp16"),
    ],
)
def test_decorated_names_are_recognised(plans, name, op, dtype, precision):
    """As ONNX Runtime 1.23.2 and 1.31.1 both write them."""
    plan = type(plans("fp32")[0])("fc", "Gemm", "w", precision)
    said = {"version": "1", "nodes": [{"name": name, "op": op, "inputs": [dtype]}]}
    assert effective(said, (plan,))[0].effective == precision


def test_blocked_convolutions_count_only_if_there_are_enough_of_them(plans):
    said = {"version": "1", "nodes": [{"name": "r1_nchwc", "op": "Conv", "inputs": ["float"]}]}
    assert precisions(effective(said, plans("fp32")[:1])) == ["fp32"]
    assert precisions(effective(said, plans("fp32")[:2])) == ["unknown", "unknown"]


def test_a_layer_that_another_provider_ran_did_not_run_as_asked(float_model, plans):
    found = evidence(float_model)
    for node in found["nodes"]:
        node["provider"] = "XnnpackExecutionProvider" if node["op"] == "Conv" else node["provider"]
    first, *_ = effective(found, plans("fp32"))
    assert (first.effective, first.fell_back) == ("unknown", True)
    assert "ran it on XnnpackExecutionProvider, not on CPUExecutionProvider" in first.reason
