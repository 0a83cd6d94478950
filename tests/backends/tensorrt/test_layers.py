from __future__ import annotations

import json

import pytest

from edgeprune.backends.tensorrt.layers import from_inspector, kind
from edgeprune.errors import DeviceError


def tensor(**told):
    return {"Name": "t", "Location": "Device", "Dimensions": [1, 64, 56, 56], **told}


WIDE = "Thirty-two wide channel vectorized row major Int8 format"
CONV = {
    "Name": "layer1.0.conv2.weight + QuantizeLinear_32 + Conv_34 + Add_42 + PWN(Relu_43)",
    "LayerType": "CaskConvolution",
    "Weights": {"Type": "Int8", "Count": 36864},
    "Bias": {"Type": "Float", "Count": 64},
    "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32",
}


def of(**layer):
    (node,) = from_inspector(json.dumps({"Layers": [CONV | layer], "Bindings": ["x"]}))
    return node


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (WIDE, "int8"),
        ("Row major linear FP32", "fp32"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Half", "fp16"),
        ("BFloat16", "bf16"),
        ("Float", "fp32"),
        ("Int4", "int4"),
        ("N/A due to dynamic shapes", "unknown"),
    ],
)
def test_a_type_is_told_from_every_way_to_say_it(said, found):
    assert kind(said) == found


def test_the_form_until_release_10_and_that_of_11_tell_the_same():
    old = of(Inputs=[tensor(**{"Format/Datatype": WIDE})], Outputs=[tensor(**{"Format/Datatype": "Float"})])
    new = of(Inputs=[tensor(Format=WIDE, Datatype="Int8")], Outputs=[tensor(Format="Linear", Datatype="Float")])
    assert old == new
    assert (old["inputs"], old["outputs"], old["weights"]) == (["int8"], ["fp32"], ["int8"])


def test_nodes_are_those_of_the_metadata_or_else_of_the_name():
    told = of(Metadata="[ONNX Layer: conv2]\u001e[ONNX Layer: /layer1/add]")
    assert told["layers"] == ["conv2", "/layer1/add"]
    assert of()["layers"] == ["layer1.0.conv2.weight", "QuantizeLinear_32", "Conv_34", "Add_42", "Relu_43"]


def test_an_engine_that_tells_names_only_is_refused():
    with pytest.raises(DeviceError, match="profiling_verbosity must be detailed"):
        from_inspector('{"Layers": ["conv1", "conv2"]}')
    for said in ("", "{}", "[]"):
        with pytest.raises(DeviceError, match="no layers"):
            from_inspector(said)
