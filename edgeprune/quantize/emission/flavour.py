"""How each runtime wants a quantized graph, and which layers it gets in float all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import onnx_ir as ir

from edgeprune.graph.fusion import LayerOnLastDimension, LookupInTurn, SumBeforeNormalization
from edgeprune.graph.layers import PRODUCTS, WeightedLayer, as_layer, weighted_layers
from edgeprune.quantize.affine import asymmetric, balanced, centred, symmetric
from edgeprune.quantize.emission.blocks import SIZES, block_size
from edgeprune.quantize.emission.placement import ACTIVATIONS, MOVES
from edgeprune.quantize.spec import LIMITS, LayerQuant, QParams, QuantPlan, Range
from edgeprune.targets.target import Target

SEVEN_BITS = 64
"""Weight magnitude at which two products with 8-bit activations still fit 16 bits: 2 * 255 * 64 < 2^15."""


@dataclass(frozen=True)
class Flavour:
    """The dialect of one runtime. Weights are always signed and symmetric, those of products per output channel."""

    activation: Callable[[Range], QParams]
    """Chooses an activation's parameters for its range."""
    left: Callable[[Range], QParams]
    """The same for the first factor of a product of two activations."""
    right: Callable[[Range], QParams]
    """The same for the second."""
    integer_bias: bool
    """Whether a bias is stored as int32, in steps of input scale x weight scale, or left in float."""
    add_absorbs: bool
    """Whether a residual Add runs inside the convolution before it."""
    quantizes_moves: bool
    """Whether a Q/DQ pair must stand behind what only moves values too, in the scale that they have."""
    floats: Mapping[str, str]
    """Operators whose layers stay float, each with the reason."""
    float_behind: Mapping[str, str] = field(default_factory=dict)
    """Operators behind which a layer stays float, each with the reason."""
    forms: tuple[type[ir.passes.InPlacePass], ...] = ()
    """How the graph is rewritten before it is quantized; values that are quantized keep their names."""
    four_bits: Mapping[str, Literal["cast", "blocks"]] = field(default_factory=dict)
    """Operators whose weights may be stored in 4 bits: made 8 again when the file is opened, or as they are in blocks,
    with the layer's input in float."""
    too_old: str = ""
    """Why the runtime reads no 4 bits; empty where it does."""
    weight_limit: int = LIMITS["int8"]
    """The largest magnitude of a quantized weight."""

    @property
    def stores_blocks(self) -> bool:
        """Whether what has 4 bits has a scale for each block."""
        return "blocks" in self.four_bits.values()

    def reduced(self) -> Flavour:
        """The same with 7-bit weights and second factors, for x86 without VNNI, whose 16-bit sums would saturate."""
        return replace(self, weight_limit=SEVEN_BITS, right=partial(symmetric, limit=SEVEN_BITS))


CASTS_FOUR_BITS = "1.23"
"""The first ONNX Runtime that casts INT4 to INT8; seen to refuse it: 1.19 to 1.22."""
_WRONG_BEHIND = "OpenVINO gives wrong numbers where it quantizes inside {}"
FLAVOURS = {
    # Zero points at the end of the range let ONNX Runtime drop a ReLU, and it fuses a Gemm only with an integer bias.
    # Its products of activations are fastest as unsigned times signed.
    "ort": Flavour(
        activation=asymmetric,
        left=asymmetric,
        right=symmetric,
        integer_bias=True,
        add_absorbs=False,
        quantizes_moves=True,
        floats={op: f"ONNX Runtime has no integer {op}" for op in ("GRU", "RNN")},
        four_bits=dict.fromkeys(("Conv", "Gemm", "MatMul", "LSTM", "Gather"), "cast"),
        forms=(SumBeforeNormalization, LookupInTurn),
    ),
    # Takes the same activations, but a zero point inside the range costs its convolutions up to a third (measured on
    # the first one of ResNet-50, with AMX). Every Add runs inside a convolution; leaving those sums in float costs it a
    # kernel each. Attention becomes one integer kernel only with zero points of 0, and a layer fuses with what stands
    # around it only on its own dimensions.
    "openvino": Flavour(
        activation=balanced,
        left=centred,
        right=centred,
        integer_bias=True,
        add_absorbs=False,
        quantizes_moves=False,
        floats={
            # measured: 10 % error at the output
            **{op: f"OpenVINO's integer {op} rounds the hidden state in the input's scale" for op in ("LSTM", "GRU")},
            "RNN": "OpenVINO has no integer RNN",
        },
        # measured with 2026.4: the quantization is applied while the maximum is still being taken
        float_behind={op: _WRONG_BEHIND.format(op) for op in ("ReduceMax", "ReduceMin")},
        four_bits=dict.fromkeys(("Conv", "Gemm", "MatMul", "Gather"), "cast"),
        forms=(LayerOnLastDimension,),
    ),
    # Zero points must be 0 and biases float; "quantize the residual input in skip connections", say its guidelines.
    "tensorrt": Flavour(
        activation=symmetric,
        left=symmetric,
        right=symmetric,
        integer_bias=False,
        add_absorbs=True,
        quantizes_moves=True,
        floats={
            **{op: f"TensorRT has no integer {op}" for op in ("LSTM", "GRU", "RNN")},
            "Gather": "TensorRT looks up tables in float only",
        },
        # its builder refuses a Cast before DQ, and fails on a Conv with 4-bit weights and 8-bit activations
        four_bits=dict.fromkeys(("Gemm", "MatMul"), "blocks"),
    ),
}


def flavour_for(backend: str, target: Target) -> Flavour:
    """The dialect of a runtime as it is on a target: its instructions and assumed versions restrict it."""
    saturates = target.reduced_range and backend != "tensorrt"  # which computes on the GPU beside that processor
    flavour = FLAVOURS[backend].reduced() if saturates else FLAVOURS[backend]
    return replace(flavour, too_old=_too_old(backend, target))


def _too_old(backend: str, target: Target) -> str:
    version = target.backends[backend].version if backend in target.backends else None
    if backend == "ort" and version is not None and _numbers(version) < _numbers(CASTS_FOUR_BITS):
        return f"ONNX Runtime {version} has no INT4 before {CASTS_FOUR_BITS}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def fitted(plan: QuantPlan, model: ir.Model, flavour: Flavour) -> QuantPlan:
    """What becomes of a plan in a flavour: what the runtime could only run in a wider precision is planned so."""
    layers = dict(plan.layers)
    for node in model.graph:
        layer = as_layer(node)
        if layer is None or layers[layer.weight].precision == "fp32":
            continue
        if reason := _refusal(node, flavour):
            layers[layer.weight] = LayerQuant("fp32", reason)
        elif layers[layer.weight].precision == "int4" and (
            reason := _needs_eight_bits(layer, layers[layer.weight], flavour)
        ):
            layers[layer.weight] = LayerQuant("int8", reason)
    return QuantPlan(layers)


def kernel(chosen: LayerQuant, layer: WeightedLayer, flavour: Flavour) -> str:
    """The precision that a fitted layer is computed in: 4 bits that are cast at load run in 8."""
    return "int8" if chosen.precision == "int4" and flavour.four_bits[layer.op] == "cast" else chosen.precision


def in_blocks(chosen: QuantPlan, model: ir.Model, flavour: Flavour) -> dict[str, WeightedLayer]:
    """By weight: the first layer that reads it, where a fitted plan's 4 bits are stored in blocks."""
    found: dict[str, WeightedLayer] = {}
    for layer in weighted_layers(model):
        if kernel(chosen.layers[layer.weight], layer, flavour) == "int4":
            found.setdefault(layer.weight, layer)
    return found


def _needs_eight_bits(layer: WeightedLayer, chosen: LayerQuant, flavour: Flavour) -> str:
    """Why this layer's weights cannot have 4 bits; empty where they can."""
    if flavour.too_old:
        return flavour.too_old
    if layer.op not in flavour.four_bits:
        return f"this runtime has no {layer.op} with 4-bit weights"
    if flavour.four_bits[layer.op] == "blocks" and block_size(layer) is None:
        return f"{layer.weight_shape[1 - layer.axis]} inputs divide into no blocks of {SIZES[-1]} or more"
    if flavour.four_bits[layer.op] == "blocks" and chosen.wide:
        return "some of its channels keep 8 bits, which blocks of 4 cannot"
    if flavour.four_bits[layer.op] == "blocks" and layer.weight_shape[layer.axis] == 1:
        return "it has one output, for which NVIDIA's compiler has no 4-bit kernel"
    if flavour.four_bits[layer.op] == "blocks" and layer.weight_shape[-1] % 2:
        return f"4 bits are packed in pairs along the last dimension, which is {layer.weight_shape[-1]}"
    return ""


def _refusal(node: ir.Node, flavour: Flavour) -> str:
    """Why this layer stays float; empty where it need not."""
    if reason := flavour.floats.get(node.op_type):
        return reason
    if node.op_type == "LSTM" and node.attributes.get_int("layout", 0) != 0:
        return "ONNX Runtime's integer LSTM reads time first only (layout=0)"
    if node.op_type == "LSTM" and any(value is not None and len(value.uses()) > 1 for value in node.inputs[1:3]):
        return "its weights are shared with another layer"
    sources = _sources(node.inputs[0]) if node.op_type in PRODUCTS else ()
    return next((flavour.float_behind[one.op_type] for one in sources if one.op_type in flavour.float_behind), "")


def _sources(value: ir.Value | None) -> Iterator[ir.Node]:
    """What computed a value, before its parts were moved, cut off or joined."""
    node = None if value is None else value.producer()
    if node is None:
        return
    if node.op_type not in MOVES | ACTIVATIONS | {"Concat"}:
        yield node
        return
    for part in node.inputs if node.op_type == "Concat" else node.inputs[:1]:
        yield from _sources(part)
