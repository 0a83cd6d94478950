"""The bias of a layer, wherever it stands: read it, replace it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph.layers import WeightedLayer
from edgeprune.quantize.constants import array, put_constant


@dataclass(frozen=True)
class BiasPlace:
    """Which input of which node a layer's bias is, or would be."""

    node: ir.Node
    index: int
    channels: int

    @property
    def exists(self) -> bool:
        """Whether one stands there already."""
        return _input(self.node, self.index) is not None

    def numbers(self) -> NDArray[np.float32]:
        """[C]; zeros where there is none yet."""
        value = _input(self.node, self.index)
        if value is None:
            return np.zeros(self.channels, np.float32)
        return np.broadcast_to(array(value).reshape(-1), self.channels)

    def put(self, numbers: NDArray[Any]) -> None:
        """Let the layer add these [C]."""
        put_constant(self.node, self.index, f"{self.node.name}/corrected_bias", numbers)


def bias_place(node: ir.Node, layer: WeightedLayer) -> BiasPlace | None:
    """Where the bias of a product layer stands: input 2 of a Conv or Gemm; for a MatMul the Add that alone reads it.

    None where a MatMul has no such Add, and where the bias is computed or differs from position to position.
    """
    channels = layer.weight_shape[layer.axis]
    place = BiasPlace(node, 2, channels)
    if layer.op == "MatMul":
        product = node.outputs[0]
        readers = [] if product.is_graph_output() else [use.node for use in product.uses()]
        if len(readers) != 1 or readers[0].op_type != "Add":
            return None
        place = BiasPlace(readers[0], 1 - list(readers[0].inputs).index(product), channels)
    return place if _is_per_channel(place) else None


def _is_per_channel(place: BiasPlace) -> bool:
    """Whether one constant number is added to each channel, or could be."""
    value = _input(place.node, place.index)
    if value is None:
        return True
    if value.const_value is None:
        return False
    shape = array(value).shape
    return shape in {(), (1,)} or (array(value).size == place.channels == shape[-1])


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None
