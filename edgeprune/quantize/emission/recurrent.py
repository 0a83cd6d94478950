"""Let an LSTM compute in integers the one way that keeps its accuracy: its kernel quantizes what it reads, each time.

A hidden state has no range of its own that could be fixed before. ONNX Runtime alone has such a kernel.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.quantize.affine import per_channel, quantize
from edgeprune.quantize.constants import add_qparams, array
from edgeprune.quantize.emission.packing import add_integers
from edgeprune.quantize.spec import QParams

DOMAIN = "com.microsoft"


def quantize_lstm(model: ir.Model, node: ir.Node, limit: int, *, four: bool) -> None:
    """Put the integer kernel in an LSTM's place.

    LSTM(x, w, r, ...)   becomes   DynamicQuantizeLSTM(x, int8 w, int8 r, ..., scales and zero points)

    The weights, [directions, gates x hidden, _], are stored transposed. One has a scale for each output channel,
    [directions, gates x hidden]; that of the hidden state has one for each direction, [directions], because more cost
    a tenth of the speed. Zero points are 0. `limit`: the largest quantized magnitude; `four`: store them in 4 bits.
    """
    graph = node.graph
    assert graph is not None
    weights = [_quantized(graph, node.inputs[i], per, limit, four=four) for i, per in ((1, True), (2, False))]
    given = [*node.inputs, *[None] * (8 - len(node.inputs))]
    given[1:3] = [stored for stored, _ in weights]
    integer = ir.node(
        "DynamicQuantizeLSTM",
        [*given, *(value for _, parameters in weights for value in parameters)],
        # LSTM has none that the kernel lacks but `layout`
        {name: attribute for name, attribute in node.attributes.items() if name != "layout"},
        domain=DOMAIN,
        outputs=[ir.val(output.name, output.dtype, output.shape) for output in node.outputs],
        name=node.name,
    )
    ir.convenience.replace_nodes_and_values(graph, node, [node], [integer], list(node.outputs), list(integer.outputs))
    model.opset_imports[DOMAIN] = 1


def _quantized(
    graph: ir.Graph, weight: ir.Value | None, channels: bool, limit: int, *, four: bool
) -> tuple[ir.Value, tuple[ir.Value, ir.Value]]:
    assert weight is not None
    name, real = str(weight.name), array(weight)
    rows = real.reshape(-1, real.shape[2]) if channels else real.reshape(real.shape[0], -1)
    q = per_channel(rows, axis=0, limit=limit)
    integers = quantize(rows, q).reshape(real.shape).transpose(0, 2, 1)
    shape = real.shape[:2] if channels else real.shape[:1]
    del graph.initializers[name]
    stored = add_integers(graph, name, np.ascontiguousarray(integers), four=four)
    # ONNX Runtime 1.23 looks at as many zero points of the second weight as the first has, past the end of fewer
    zero_point = np.zeros(real.shape[:2], q.zero_point.dtype)
    return stored, add_qparams(graph, name, QParams(q.scale.reshape(shape), zero_point))
