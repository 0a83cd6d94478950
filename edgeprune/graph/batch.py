"""Let a graph that was exported for one sample take any number of them."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

BATCH = "batch"


def free_batch(model: ir.Model) -> ir.Model:
    """The model with the leading dimension of its inputs and outputs free.

    [1, 3, 32, 32]   becomes   [batch, 3, 32, 32]

    A graph may hold its batch in other places too, e.g. in the shape of a Reshape: whether the result still computes
    sample by sample what the model computes is for the caller to try.
    """
    freed = model.clone()
    for value in freed.graph.inputs:
        if value.shape is not None and len(value.shape) > 0:
            value.shape = ir.Shape([BATCH, *list(value.shape)[1:]])
    given = set(freed.graph.inputs) | set(freed.graph.initializers.values())
    for node in freed.graph:
        for output in node.outputs:
            if output not in given:
                output.shape = None
    return common.ShapeInferencePass()(freed).model
