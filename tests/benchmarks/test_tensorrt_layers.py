from __future__ import annotations

import pytest

from edgeprune.backends.tensorrt.layers import as_node
from edgeprune.results import Layer

LOG = """Total Weights Memory: 13576 bytes
Layers:
Name: shape_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata: 
Name: conv1_myl0_2, LayerType: correlation, Inputs: [ { Name: q0, Dimensions: [-1,4,8,8], Strides: [64,8,1,1], \
StrideOrder: [3,0,2,1], Datatype: Int8, Format: (NHWC) Channel major format }], Constants: [ { Name: w1, Dimensions: \
[16,4,3,3], Strides: [36,1,12,4], StrideOrder: [3,0,2,1], Datatype: Int8, Format: (NHWC) Channel major format }, \
{ Name: b1, Dimensions: [1,16,1,1], Strides: [16,1,16,16], StrideOrder: [3,0,2,1], Datatype: Float, Format: (NHWC) \
Channel major format }], Outputs: [ { Name: c1, Dimensions: [-1,16,8,8], Strides: [1024,1,128,16], StrideOrder: \
[3,0,2,1], Datatype: Float, Format: (NHWC) Channel major format }], TacticName: __myelin_CASK_STUB, StreamId: 0, \
Metadata: [ONNX Layer: conv1][ONNX Layer: d0]
Bindings:"""
"""As TensorRT-RTX 1.7.1 writes it."""


@pytest.fixture(scope="module")
def layers(program):
    return program("tensorrt_layers")


def test_the_log_of_a_build_lists_its_layers(layers):
    first, conv = (as_node(layer) for layer in layers.logged(LOG.splitlines()))
    assert (first["type"], first["inputs"], first["weights"]) == ("shape_call", [], [])
    assert (conv["type"], conv["inputs"], conv["outputs"]) == ("correlation", ["int8"], ["fp32"])
    assert conv["weights"] == ["int8", "fp32"]
    assert conv["layers"] == ["conv1", "d0"]


def test_a_row_tells_what_does_not_run_as_intended(layers):
    ran = (Layer("a", "Conv", "int8", "int8"), Layer("b", "Gemm", "int8", "fp32"), Layer("c", "LSTM", "fp32", "fp32"))
    one = layers.Compiled("tensorrt-int8", ran, [], 1_230_000, 4_560_000, 0.25)
    told = "| net | tensorrt-int8 | fp32 1/1, int8 1/2 | 1 Gemm in fp32 | 1.23 | 4.56 | 0.2 |"
    assert layers.row("net", one) == told
