"""What a layer computes with at each precision: weights rounded to the nearest, and an input within its range."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph.layers import WeightedLayer, weighted_layers
from edgeprune.quantize.affine import dequantize, per_channel, quantize
from edgeprune.quantize.constants import array
from edgeprune.quantize.emission.placement import place
from edgeprune.quantize.spec import LIMITS, Range

Candidates = Mapping[str, Mapping[str, NDArray[np.float32]]]
"""By weight initializer and precision: the real numbers, in its layout, that the stored integers stand for."""


def nearest(model: ir.Model) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Every weight of every layer at each precision of LIMITS, with the scales that `qdq` gives it."""
    found = {}
    for layer in weighted_layers(model):
        for weight in layer.weights:
            real = array(model.graph.initializers[weight])
            found[weight] = {name: _rounded(real, layer, weight, limit) for name, limit in LIMITS.items()}
    return found


def input_ranges(model: ir.Model, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """By weight: the range of its layer's input, where that is quantized; `ranges` are those of a calibration."""
    layers = weighted_layers(model)
    shared = place(model, {layer.weight for layer in layers}, add_absorbs=False).shared
    sources = {layer.weight: shared.get(layer.input, layer.input) for layer in layers}
    return {weight: ranges[source] for weight, source in sources.items() if source in ranges}


def _rounded(real: NDArray[np.float32], layer: WeightedLayer, weight: str, limit: int) -> NDArray[np.float32]:
    """A scale for each output channel, for each row of a table, for each direction of a recurrence."""
    axis = layer.axis
    if layer.op == "Gather" or weight == layer.recurrence:
        axis = 0
    elif real.ndim == 3 and layer.recurrence is not None:
        rows = real.reshape(-1, real.shape[-1])
        return _rounded_along(rows, 0, limit).reshape(real.shape)
    return _rounded_along(real, axis, limit)


def _rounded_along(real: NDArray[np.float32], axis: int, limit: int) -> NDArray[np.float32]:
    q = per_channel(real, axis, limit)
    return dequantize(quantize(real, q, axis), q, axis)
