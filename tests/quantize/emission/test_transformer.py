"""Attention and what stands around it, as torch exports it."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from edgeprune.backends import EFFECTIVE, LOAD
from edgeprune.bundle import LayerPlan
from edgeprune.errors import MissingError
from edgeprune.graph.cleanup import clean
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.save import write_onnx
from edgeprune.metrics import snr_db
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.emission.flavour import FLAVOURS
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.plan import uniform_plan
from edgeprune.registry import resolve

WORDS, LENGTH, WIDTH, HEADS = 100, 16, 32, 2
OPTIONS = {"ort": {}, "openvino": {"INFERENCE_PRECISION_HINT": "f32"}}
EVERY_FLAVOUR = pytest.mark.parametrize("flavour", FLAVOURS)


class Encoder(nn.Module):
    """One layer of BERT (Devlin et al., 2018), with the additive mask of its usual implementations."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down, self.head = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embedding(ids)
        bias = torch.where(mask[:, None, None, :] > 0, 0.0, torch.finfo(torch.float32).min)
        q, k, v = (layer(x).view(-1, LENGTH, HEADS, WIDTH // HEADS).transpose(1, 2) for layer in self._qkv())
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            mixed = ((q @ k.transpose(2, 3)) * (WIDTH // HEADS) ** -0.5 + bias).softmax(-1) @ v
        x = self.norm1(x + self.out(mixed.transpose(1, 2).reshape(-1, LENGTH, WIDTH)))
        x = self.norm2(x + self.down(nn.functional.gelu(self.up(x))))
        return self.head(x[:, 0])

    def _qkv(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.query, self.key, self.value


@pytest.fixture(scope="module")
def feeds() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    mask = (np.arange(LENGTH) < random.integers(3, LENGTH, (32, 1))).astype(np.int64)
    return {"ids": random.integers(0, WORDS, (32, LENGTH)), "mask": mask}


@pytest.fixture(scope="module", params=[True, False], ids=["sdpa", "eager"])
def encoder(request) -> ir.Model:
    torch.manual_seed(0)
    module = Encoder(request.param).eval()
    example = (torch.zeros(2, LENGTH, dtype=torch.int64), torch.ones(2, LENGTH, dtype=torch.int64))
    batch = torch.export.Dim("batch", max=64)
    program = torch.onnx.export(
        module,
        example,
        dynamo=True,
        opset_version=20,
        verbose=False,
        input_names=["ids", "mask"],
        output_names=["scores"],
        dynamic_shapes=({0: batch}, {0: batch}),
    )
    return clean(ir.from_proto(program.model_proto))


@pytest.fixture(scope="module")
def ranges(encoder, feeds, tmp_path_factory):
    file = tmp_path_factory.mktemp("encoder") / "float.onnx"
    write_onnx(encoder, file)
    return calibrate(file, [feeds])


def run(model, feeds, runtime, folder):
    write_onnx(model, folder / "m.onnx")
    try:
        load = resolve(LOAD, runtime, "backend")
    except MissingError as error:
        pytest.skip(str(error))
    with load({"model": folder / "m.onnx"}, OPTIONS[runtime], threads=1, batch=32) as runner:
        return runner.infer(feeds)["scores"], runner.evidence()


def test_both_ways_to_write_attention_become_one(encoder):
    constant = encoder.graph.initializers.values()
    counts = Counter(
        node.op_type for node in encoder.graph if node.op_type != "MatMul" or node.inputs[1] not in constant
    )
    assert (counts["MatMul"], counts["Mul"], counts["Transpose"], counts["IsNaN"]) == (2, 1, 4, 0)


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_every_layer_runs_in_integers_and_nearly_as_in_float(encoder, ranges, feeds, runtime, tmp_path):
    expected, _ = run(encoder, feeds, "ort", tmp_path)
    integer = emit(encoder, uniform_plan(encoder, "int8"), ranges, FLAVOURS[runtime])
    found, evidence = run(integer, feeds, runtime, tmp_path)
    layers = [LayerPlan(layer.name, layer.op, layer.weight, "int8") for layer in weighted_layers(encoder)]
    assert len(layers) == 8
    effective = resolve(EFFECTIVE, runtime, "backend")(evidence, layers)
    assert [(layer.name, layer.effective) for layer in effective if layer.effective != "int8"] == []
    assert snr_db(expected, found) > 25


def test_attention_runs_in_integers_in_onnx_runtime(encoder, ranges, feeds, tmp_path):
    integer = emit(encoder, uniform_plan(encoder, "int8"), ranges, FLAVOURS["ort"])
    _, evidence = run(integer, feeds, "ort", tmp_path)
    counts = Counter(node["op"] for node in evidence["nodes"])
    assert counts["MatMul"] == 0
    assert counts["MatMulIntegerToFloat"] == counts["QLinearMatMul"] == 1
    assert counts["SkipLayerNormalization"] == 0  # slower than the two operators it stands for


@EVERY_FLAVOUR
def test_the_masks_huge_numbers_are_in_no_range(encoder, ranges, flavour):
    model = emit(encoder, uniform_plan(encoder, "int8"), ranges, FLAVOURS[flavour])
    scales = [value for name, value in model.graph.initializers.items() if name.endswith("/scale")]
    assert max(float(value.const_value.numpy().max()) for value in scales) < 1


@EVERY_FLAVOUR
def test_a_sum_in_the_residual_stream_is_not_rounded(encoder, ranges, flavour):
    model = emit(encoder, uniform_plan(encoder, "int8"), ranges, FLAVOURS[flavour])
    for norm in (node for node in model.graph if node.op_type == "LayerNormalization"):
        added = norm.inputs[0].producer()
        assert added.op_type in {"Add", "Sum"}
        assert "DequantizeLinear" not in {value.producer().op_type for value in added.inputs if value.producer()}
