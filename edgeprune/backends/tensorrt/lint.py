"""Rules that a Q/DQ graph must keep for TensorRT: some it refuses late, some it breaks silently.

From NvInfer.h (IQuantizeLayer, IDequantizeLayer), the operator table of github.com/onnx/onnx-tensorrt
(`docs/operators.md`, its parser's warnings) and builds with the TensorRT-RTX compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph.load import opset, read_onnx
from edgeprune.targets.target import Target

OPSET_LIMITS = (((10, 13), 24), ((10, 9), 22), ((10, 0), 20))
"""From this TensorRT on, opsets up to this one are parsed."""

OPSET_RULE = "opset"

REFUSED = {"MatMulInteger", "ConvInteger", "MatMulNBits", "QGemm"}
REFUSED_KINDS = ("QLinear", "DynamicQuantize")
RECURRENT = {"LSTM": 3, "GRU": 2, "RNN": 1}
"""How many activations each names per direction."""
WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1}
TYPES = {ir.DataType.INT8, ir.DataType.INT4, ir.DataType.INT32}
"""Of what is quantized; a bias in the last has a rule of its own."""
FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


@dataclass(frozen=True)
class Violation:
    """One rule that one node breaks."""

    rule: str
    node: str
    text: str


def lint(model_file: Path, target: Target) -> tuple[Violation, ...]:
    """Every violation in the file, in the graph's order. Raises what reading the file raises."""
    model = read_onnx(model_file)
    found = list(_opset(opset(model), target.tensorrt))
    for node in model.graph.all_nodes():
        for rule, check in RULES.items():
            found += [Violation(rule, node.name or "", text) for text in check(node)]
    return tuple(found)


def oldest_for(opset_version: int) -> str:
    """The first TensorRT that parses this opset."""
    fitting = [version for version, limit in OPSET_LIMITS if opset_version <= limit]
    return ".".join(map(str, min(fitting))) if fitting else "none known"


def newest_opset(tensorrt: str) -> int:
    """The last opset that this TensorRT parses; 0 where it is older than any that is known."""
    have = tuple(int(part) for part in tensorrt.split(".")[:2])
    return next((limit for since, limit in OPSET_LIMITS if have >= since), 0)


def _opset(version: int, tensorrt: str) -> Iterator[Violation]:
    limit = newest_opset(tensorrt)
    if version > limit:
        text = f"opset {version}; TensorRT {tensorrt} parses up to {limit}: export with a lower opset"
        yield Violation(OPSET_RULE, "", text)


def _operator(node: ir.Node) -> Iterator[str]:
    where = f"{node.domain}." if node.domain else ""
    if node.op_type in REFUSED or node.op_type.startswith(REFUSED_KINDS):
        yield f"TensorRT has no {where}{node.op_type}: quantize with QuantizeLinear and DequantizeLinear"
    elif node.domain not in ("", "ai.onnx"):
        yield f"TensorRT has no {where}{node.op_type}: export the model with ONNX's own operators"


def _recurrent(node: ir.Node) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx") or node.op_type not in RECURRENT:
        return
    for attribute in ("input_forget", "layout"):
        if node.attributes.get_int(attribute, 0) != 0:
            yield f"{attribute} is {node.attributes.get_int(attribute, 0)}; TensorRT has {node.op_type} with 0 only"
    activations, each = list(node.attributes.get_strings("activations", ())), RECURRENT[node.op_type]
    if activations[each:] and activations[:each] != activations[each:]:
        yield "its two directions have different activations; TensorRT takes the same for both"


def _parameters(node: ir.Node) -> Iterator[str]:
    if _is_qdq(node) and any(value is not None and _constant(value) is None for value in node.inputs[1:]):
        yield "scale or zero point is computed in the graph; they must be constants when the engine is built"


def _symmetric(node: ir.Node) -> Iterator[str]:
    if _is_qdq(node) and (zero := _zero_point(node)) is not None and np.any(zero != 0):
        yield "the zero point is not 0: TensorRT quantizes symmetrically"


def _quantized_type(node: ir.Node) -> Iterator[str]:
    if not _is_qdq(node):
        return
    kind = _kind(node)
    if kind == ir.DataType.UINT8:
        yield "UINT8 is read as INT8 without an error, which halves the range: use an INT8 zero point"
    elif kind in {ir.DataType.UINT4, ir.DataType.INT16, ir.DataType.UINT16}:
        yield f"{kind.name} is not a quantized type of TensorRT"
    elif kind is not None and kind not in TYPES:
        yield f"{kind.name} is for newer GPUs alone, for which nothing is lowered here: use INT8"


def _bias(node: ir.Node) -> Iterator[str]:
    if node.op_type == "DequantizeLinear" and _kind(node) == ir.DataType.INT32:
        yield "an INT32 value (a bias) goes through DequantizeLinear: keep biases float"


def _activation(node: ir.Node) -> Iterator[str]:
    source = node.inputs[0] if _is_qdq(node) else None
    scale = _scale(node)
    if source is not None and scale is not None and scale.size > 1 and _origin(source) is None:
        yield "an activation is quantized per channel, for which there is no INT8 kernel: one scale per tensor"


def _weight_axis(node: ir.Node) -> Iterator[str]:
    axis = WEIGHT_AXIS.get(node.op_type)
    weight = node.inputs[1].producer() if axis is not None and node.inputs[1] is not None else None
    if weight is None or weight.op_type != "DequantizeLinear":
        return
    scale, rank = _scale(weight), _rank(weight)
    found = int(weight.attributes.get_int("axis", 1))
    found += rank if found < 0 else 0
    if scale is not None and scale.size > 1 and found != axis:
        yield f"its weight is quantized along axis {found}; only axis {axis} has an INT8 kernel"


def _positive(node: ir.Node) -> Iterator[str]:
    scale = _scale(node)
    if scale is not None and not (np.all(np.isfinite(scale)) and np.all(scale > 0)):
        yield "a scale is not a positive number"


def _cast(node: ir.Node) -> Iterator[str]:
    source = node.inputs[0].producer() if node.op_type == "DequantizeLinear" and node.inputs[0] is not None else None
    if source is not None and source.op_type == "Cast":
        yield "a Cast stands in front of DequantizeLinear, which the builder refuses: store the type it reads"


def _cast_to_float(node: ir.Node) -> Iterator[str]:
    source = node.inputs[0] if node.op_type == "Cast" else None
    if source is None or source.dtype not in TYPES - {ir.DataType.INT32}:
        return
    producer = source.producer()
    quantized = _constant(source) is not None or (producer is not None and _is_qdq(producer))
    if quantized and node.attributes.get_int("to", 0) in FLOATS:
        yield f"{source.dtype.name} is made float by a Cast, which the builder refuses: use DequantizeLinear"


def _scan_length(node: ir.Node) -> Iterator[str]:
    if node.op_type != "Loop" or node.domain not in ("", "ai.onnx"):
        return
    carried, count = max(0, len(node.inputs) - 2), node.inputs[0]
    if len(node.outputs) > carried and (count is None or _constant(count) is None):
        yield "how often it runs is computed, and TensorRT must know how much it collects: make the count a constant"


def _four_bits(node: ir.Node) -> Iterator[str]:
    if node.op_type != "DequantizeLinear" or _kind(node) != ir.DataType.INT4 or node.inputs[0] is None:
        return
    weight = _constant(node.inputs[0])
    if weight is None:
        yield "an activation has 4 bits; only weights can"
    elif weight.shape[-1:] and weight.shape[-1] % 2:
        yield f"its last dimension of {weight.shape[-1]} is odd; 4 bits are packed in pairs along it"
    elif _block(node) and weight.ndim != 2:
        yield f"blocks of 4 bits in {weight.ndim} dimensions; TensorRT 10 has them in 2 only"


def _blocked_axis(node: ir.Node) -> Iterator[str]:
    rank = _rank(node) if _is_qdq(node) and _block(node) else 0
    axis = int(node.attributes.get_int("axis", 1)) if rank else 0
    if rank and (axis + rank if axis < 0 else axis) < rank - 2:
        yield f"blocks along axis {axis}; they must lie along one of the last two"


def _four_bit_convolution(node: ir.Node) -> Iterator[str]:
    sources = [value.producer() if value is not None else None for value in node.inputs[:2]]
    if node.op_type not in WEIGHT_AXIS or any(one is None or one.op_type != "DequantizeLinear" for one in sources):
        return
    data, weight = sources
    if (
        data is not None
        and weight is not None
        and _kind(weight) == ir.DataType.INT4
        and _kind(data) == ir.DataType.INT8
    ):
        yield "4-bit weights meet 8-bit activations, on which NVIDIA's compiler fails: give it 8-bit weights"


RULES: dict[str, Callable[[ir.Node], Iterator[str]]] = {
    "operator": _operator,
    "recurrent": _recurrent,
    "constant-parameters": _parameters,
    "symmetric": _symmetric,
    "quantized-type": _quantized_type,
    "float-bias": _bias,
    "per-tensor-activation": _activation,
    "weight-axis": _weight_axis,
    "positive-scale": _positive,
    "no-cast": _cast,
    "no-cast-to-float": _cast_to_float,
    "scan-length": _scan_length,
    "four-bits": _four_bits,
    "blocked-axis": _blocked_axis,
    "four-bit-convolution": _four_bit_convolution,
}


def _is_qdq(node: ir.Node) -> bool:
    return node.op_type in {"QuantizeLinear", "DequantizeLinear"}


def _block(node: ir.Node) -> int:
    """How many numbers share a scale; 0 where all of a channel or tensor do."""
    return int(node.attributes.get_int("block_size", 0))


def _constant(value: ir.Value) -> NDArray[np.generic] | None:
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _scale(node: ir.Node) -> NDArray[np.float64] | None:
    value = node.inputs[1] if _is_qdq(node) else None
    constant = None if value is None else _constant(value)
    return None if constant is None else constant.astype(np.float64)


def _zero_point(node: ir.Node) -> NDArray[np.generic] | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return None if value is None else _constant(value)


def _kind(node: ir.Node) -> ir.DataType | None:
    """The quantized type; QuantizeLinear without zero point and `output_dtype` gives UINT8."""
    value = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    return None if value is None else value.dtype


def _origin(value: ir.Value) -> ir.Value | None:
    """The constant that a value is the quantized form of; None for an activation."""
    producer = value.producer()
    while producer is not None and _is_qdq(producer) and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    return value if _constant(value) is not None else None


def _rank(dequantize: ir.Node) -> int:
    source = dequantize.inputs[0]
    return 0 if source is None or source.shape is None else len(source.shape)
