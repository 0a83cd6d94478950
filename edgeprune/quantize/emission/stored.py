"""What a product's weight is stored as: the integers of the file, and the real numbers that they stand for."""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph.layers import PRODUCTS, weighted_layers
from edgeprune.quantize.affine import dequantize, per_channel, quantize
from edgeprune.quantize.constants import array
from edgeprune.quantize.emission.blocks import from_blocks, on_blocks
from edgeprune.quantize.emission.flavour import Flavour, fitted, in_blocks
from edgeprune.quantize.spec import LIMITS, LayerQuant, QParams, QuantPlan, Rounded


def stored_weights(
    model: ir.Model,
    plan: QuantPlan,
    flavour: Flavour,
    rounded: Mapping[str, Rounded] | None = None,
    *,
    precisions: Container[str] = ("int8", "int4"),
) -> dict[str, NDArray[np.float32]]:
    """Every weight that a product multiplies by and that `qdq.emit` stores as integers, as the real numbers it is then.

    One thing is left out: a channel of next to nothing may get coarser steps there, so that its bias fits int32.
    """
    chosen, given = fitted(plan, model, flavour), rounded or {}
    blocks = in_blocks(chosen, model, flavour)
    found = {}
    for layer in weighted_layers(model):
        name, how = layer.weight, chosen.layers[layer.weight]
        if layer.op not in PRODUCTS or how.precision not in precisions or name in found:
            continue
        real = array(model.graph.initializers[name])
        if name in blocks:
            found[name] = from_blocks(*on_blocks(real, layer, given.get(name)), layer)
        else:
            integers, w = on_grid(real, layer.axis, how, flavour, given.get(name))
            found[name] = dequantize(integers, w, layer.axis)
    return found


def on_grid(
    real: NDArray[np.float32],
    axis: int,
    chosen: LayerQuant,
    flavour: Flavour,
    rounded: Rounded | None,
    floor: NDArray[np.float64] | float = 0.0,
) -> tuple[NDArray[np.int8], QParams]:
    """A weight as integers, and their scale for each output channel, which is at least `floor` [] or [C]."""
    narrow = np.full(real.shape[axis], chosen.precision == "int4")
    narrow[list(chosen.wide)] = False
    limit = np.where(narrow, LIMITS["int4"], flavour.weight_limit)
    w = per_channel(real, axis, limit, floor)
    if rounded is not None:
        along = [-1 if dim == axis else 1 for dim in range(real.ndim)]
        real = np.where(narrow.reshape(along), rounded.weight, real)
        w = QParams(np.where(narrow, np.maximum(rounded.scale, floor), w.scale).astype(np.float32), w.zero_point)
    return quantize(real, w, axis), w
