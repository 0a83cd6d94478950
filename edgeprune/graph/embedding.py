"""How many tokens a graph knows: the rows of the tables that its inputs are looked up in."""

from __future__ import annotations

import onnx_ir as ir

THROUGH = frozenset({"Cast", "Clip", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Slice"})
"""What may stand between an input and its table: token numbers stay what they are."""


def embedding_rows(model: ir.Model) -> dict[str, int]:
    """By input: the rows of the smallest constant table that it indexes; inputs that index none are left out."""
    rows: dict[str, int] = {}
    for node in model.graph:
        if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0:
            continue
        table, index = node.inputs[0], node.inputs[1]
        while index is not None and (producer := index.producer()) is not None and producer.op_type in THROUGH:
            index = producer.inputs[0]
        constant = None if table is None else ir.convenience.get_const_tensor(table)
        if constant is None or len(constant.shape) != 2 or index is None or not index.is_graph_input():
            continue
        found = int(constant.shape.numpy()[0])
        rows[str(index.name)] = min(found, rows.get(str(index.name), found))
    return rows
