"""Store a table in 8 bits and make real numbers of the rows that are looked up, not of the whole table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.quantize.affine import per_channel, quantize
from edgeprune.quantize.constants import add_constant, array
from edgeprune.quantize.emission.packing import add_integers


def quantize_embedding(
    graph: ir.Graph, table: ir.Value, lookups: Sequence[ir.Node], name: str, limit: int, *, four: bool
) -> None:
    """Let `lookups` read a table of integers.

    Gather(table, ids)   becomes   Mul(Cast(Gather(int8 table, ids)), Gather(scale, ids))

    The table is stored as `name`, with one scale for each row, [rows, 1]. DequantizeLinear could not choose scales by
    row; and behind a scale that is constant OpenVINO goes on in 8 bits as far as it can, through sums that overflow
    and into an LSTM. `limit`: the largest quantized magnitude; `four`: store it in 4 bits.
    """
    real = array(table)
    q = per_channel(real, axis=0, limit=limit)
    if name == table.name:
        del graph.initializers[name]
    stored = add_integers(graph, name, quantize(real, q), four=four)
    scale = add_constant(graph, f"{name}/scale", q.scale[:, np.newaxis])
    for node in lookups:
        _replace(graph, node, stored, scale)


def _replace(graph: ir.Graph, node: ir.Node, stored: ir.Value, scale: ir.Value) -> None:
    name, ids, found = node.name, node.inputs[1], node.outputs[0]
    lookup = ir.node("Gather", [stored, ids], name=name)
    steps = ir.node("Cast", [lookup.outputs[0]], {"to": int(ir.DataType.FLOAT)}, name=f"{name}/steps")
    scales = ir.node("Gather", [scale, ids], name=f"{name}/scales")
    scaled = ir.node("Mul", [steps.outputs[0], scales.outputs[0]], name=f"{name}/scaled")
    for inner, what in ((lookup, "rows"), (steps, "steps"), (scales, "scales")):
        inner.outputs[0].name = f"{found.name}/{what}"
    replacement = [lookup, steps, scales, scaled]
    ir.convenience.replace_nodes_and_values(graph, node, [node], replacement, [found], [scaled.outputs[0]])
