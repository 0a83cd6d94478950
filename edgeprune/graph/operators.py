"""What a runtime executes as one: an operator that does the work, and what is done along with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.graph.cost import node_macs
from edgeprune.latency_table import Work

SILENT = frozenset(
    {"Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Unsqueeze"}
)
"""What an operator is not named after, so that it has one name in all flavours of a graph."""
MOVES = frozenset({"Concat", "Expand", "Gather", "Pad", "Slice", "Split", "Transpose"})
ELEMENTWISE = frozenset(
    {
        "Abs",
        "Add",
        "BatchNormalization",
        "Clip",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Gelu",
        "Greater",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Less",
        "Log",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Not",
        "Pow",
        "PRelu",
        "Reciprocal",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Sqrt",
        "Sub",
        "Sum",
        "Tanh",
        "Where",
    }
)
ALONG = SILENT | MOVES | ELEMENTWISE
"""What is done along with the operator before it: on its numbers as they come, or where they lie."""
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})
CHANNELS_SECOND = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
SAME = {"DynamicQuantizeLSTM": "LSTM"}
"""What an operator is called in float."""
WIDTHS = {"int8": 1, "int4": 1, "fp16": 2, "bf16": 2, "fp32": 4}
"""Of a number as a kernel of this precision reads it."""


@dataclass(frozen=True)
class Operator:
    """An operator with all that runs along with it."""

    name: str
    """Its node's."""
    kind: str
    """`Conv 3x3/2 + Relu`: what it is, its kernel and stride, and what is done along."""
    shapes: str
    """`1x16x32x32 > 1x32x16x16`: of what it reads and what it gives, the batch 1 where it is free."""
    parts: frozenset[str]
    """The names of its nodes and of what they give: a runtime tells its kernels by one or the other."""
    before: str
    """The operator that it reads from; empty for the first."""
    macs: int
    numbers: int
    """In its input and its output."""
    weights: int
    channels: int

    def work(self, precision: str) -> Work:
        """How much it does in a precision."""
        return Work(self.macs, WIDTHS.get(precision, 4) * self.numbers + self.weight_bytes(precision), self.channels)

    def weight_bytes(self, precision: str) -> int:
        """Of its weights, as a kernel of this precision reads them."""
        return WIDTHS.get(precision, 4) * self.weights


def operators(model: ir.Model) -> tuple[Operator, ...]:
    """All of them, in the order they are computed; of a float graph and of one with Q/DQ pairs the same.

    x -> Q -> DQ -> conv -> relu -> conv -> add   are   `Conv 3x3 + Relu` and `Conv 3x3 + Add`

    What reads nothing but the inputs, as the first Q does, belongs to the first operator that reads from it.
    """
    nodes = _computed(model)
    heads = _heads(nodes)
    groups: dict[ir.Node, list[ir.Node]] = {}
    for node in nodes:
        groups.setdefault(heads[node], []).append(node)
    order = [node for node in nodes if heads[node] is node]
    return tuple(_operator(head, groups[head], heads) for head in order)


def parts(found: Sequence[Operator]) -> dict[str, str]:
    """The operator's name by the name of each of its parts."""
    return {part: operator.name for operator in found for part in operator.parts}


def _computed(model: ir.Model) -> list[ir.Node]:
    """The nodes whose result depends on numbers that are given; all else is folded when a model is opened."""
    known, found = set(model.graph.inputs), []
    for node in model.graph:
        if node.op_type not in {"Shape", "Size"} and any(value in known for value in node.inputs):
            known.update(node.outputs)
            found.append(node)
    return found


def _heads(nodes: Sequence[ir.Node]) -> dict[ir.Node, ir.Node]:
    """For each node the one that it runs along with: the latest that it reads from, or itself."""
    heads: dict[ir.Node, ir.Node] = {}
    order = {node: index for index, node in enumerate(nodes)}
    for node in nodes:
        behind = [heads[one] for one in _producers(node) if one in heads]
        if node.op_type not in ALONG or _is_lookup(node):
            heads[node] = node
        elif behind:
            heads[node] = max(behind, key=order.__getitem__)
    for node in reversed(nodes):
        if node not in heads:
            readers = [heads[use] for value in node.outputs for use in value.consumers() if use in heads]
            heads[node] = min(readers, key=order.__getitem__) if readers else node
    return heads


def _producers(node: ir.Node) -> Iterator[ir.Node]:
    return (producer for value in node.inputs if value is not None and (producer := value.producer()) is not None)


def _is_lookup(node: ir.Node) -> bool:
    """Whether a Gather picks from a constant, perhaps through DQ, and does not just choose among what was computed."""
    if node.op_type != "Gather":
        return False
    table = node.inputs[0]
    while table is not None and (producer := table.producer()) is not None and producer.op_type in SILENT:
        table = producer.inputs[0]
    return table is not None and table.const_value is not None


def _operator(head: ir.Node, group: Sequence[ir.Node], heads: Mapping[ir.Node, ir.Node]) -> Operator:
    data, weight = _data_and_weight(head, heads)
    outside = [heads[one].name for one in _producers(head) if one in heads and heads[one] is not head]
    along = [node.op_type for node in group if node is not head and node.op_type not in SILENT]
    out = _sizes(head.outputs[0])
    return Operator(
        name=str(head.name),
        kind=" + ".join([_kind(head, weight), *along]),
        shapes=f"{'x'.join(map(str, data))} > {'x'.join(map(str, out))}",
        parts=frozenset(str(name) for node in group for name in (node.name, *(value.name for value in node.outputs))),
        before=str(outside[0]) if outside else "",
        macs=node_macs(head),
        numbers=math.prod(data) + math.prod(out),
        weights=math.prod(weight) if weight else 0,
        channels=out[1] if head.op_type in CHANNELS_SECOND and len(out) > 1 else out[-1],
    )


def _data_and_weight(head: ir.Node, heads: Mapping[ir.Node, ir.Node]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes of the first input that is computed or given, and of all constants that are multiplied by."""
    if _is_lookup(head):
        return _sizes(head.inputs[1]), ()  # of a table only the rows that are asked for are read
    sizes = [_sizes(value) for value in head.inputs[:2] if value is not None]
    if head.op_type in WEIGHTED and len(sizes) == 2:
        return sizes[0], sizes[1]
    return sizes[0], ()


def _kind(head: ir.Node, weight: tuple[int, ...]) -> str:
    """The operator with what decides about its kernel."""
    if head.op_type not in {"Conv", "ConvTranspose"} or not weight:
        return SAME.get(head.op_type, head.op_type)
    stride = head.attributes.get_ints("strides", [1])
    groups = head.attributes.get_int("group", 1)
    apart = "" if groups == 1 else " depthwise" if weight[1] == 1 else f" in {groups} groups"
    return f"{head.op_type} {'x'.join(map(str, weight[2:]))}{f'/{max(stride)}' if max(stride) > 1 else ''}{apart}"


def _sizes(value: ir.Value | None) -> tuple[int, ...]:
    shape = () if value is None or value.shape is None else value.shape
    return tuple(size if isinstance(size, int) else 1 for size in shape) or (1,)
