"""How each runtime wants a quantized graph, and which layers it gets in float all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import onnx_ir as ir

from edgeprune.graph.fusion import LayerOnLastDimension, SumBeforeNormalization
from edgeprune.graph.layers import PRODUCTS, as_layer
from edgeprune.quantize.affine import asymmetric, centred, symmetric
from edgeprune.quantize.placement import ACTIVATIONS, MOVES
from edgeprune.quantize.spec import LayerQuant, QParams, QuantPlan, Range

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
    weight_limit: int = 127
    """The largest magnitude of a quantized weight."""

    def reduced(self) -> Flavour:
        """The same with 7-bit weights and second factors, for x86 without VNNI, whose 16-bit sums would saturate."""
        return replace(self, weight_limit=SEVEN_BITS, right=partial(symmetric, limit=SEVEN_BITS))


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
        forms=(SumBeforeNormalization,),
    ),
    # Takes the same activations, with every Add inside a convolution; leaving those sums in float costs it a kernel
    # each. Attention becomes one integer kernel only with zero points of 0, and a layer fuses with what stands around
    # it only on its own dimensions.
    "openvino": Flavour(
        activation=asymmetric,
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
    ),
}


def fitted(plan: QuantPlan, model: ir.Model, flavour: Flavour) -> QuantPlan:
    """What becomes of a plan in a flavour: layers that the runtime could only run in float are planned as float."""
    found = [(layer.weight, _refusal(node, flavour)) for node in model.graph if (layer := as_layer(node))]
    refused = {weight: reason for weight, reason in found if reason}
    return QuantPlan(
        {
            weight: LayerQuant("fp32", refused[weight]) if layer.precision != "fp32" and weight in refused else layer
            for weight, layer in plan.layers.items()
        }
    )


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
