"""Let the mean of what a layer gives stay as it is when its weights are rounded.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2, with the
inputs' mean from samples:

    E[y~] = E[y] + (W~ - W) E[x],     so     b <- b - (W~ - W) E[x]

W~ is the rounded weight. A convolution's shift is the mean over its output positions, those at padded borders included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.backend import Feeds
from edgeprune.quantize.constants import array
from edgeprune.quantize.corrections.bias import bias_place
from edgeprune.quantize.corrections.matrix import columns, matrix, product_layers
from edgeprune.quantize.stream import values


def correct_biases(
    model: ir.Model, rounded: Mapping[str, NDArray[Any]], means: Mapping[str, NDArray[np.float64]]
) -> ir.Model:
    """Return the float model with biases for the weights `rounded`, by initializer, each in its layout.

    `means`: what `mean_columns` found for this model.

    The weights stay float: `qdq` stores the rounded ones. A layer that has no bias gets one; a MatMul whose result no
    constant is added to is left alone.
    """
    corrected = model.clone()
    layers = [
        (node, layer, place)
        for node, layer in product_layers(corrected)
        if layer.weight in rounded and (place := bias_place(node, layer)) is not None
    ]
    for _, layer, place in layers:
        real = array(corrected.graph.initializers[layer.weight])
        error = matrix(rounded[layer.weight].astype(np.float64) - real, layer)
        place.put(place.numbers() - (error @ means[layer.name][..., np.newaxis]).reshape(-1))
    return corrected


def mean_columns(model: ir.Model, batches: Iterable[Feeds]) -> dict[str, NDArray[np.float64]]:
    """By node: the mean [groups, K] over samples and output positions of what it reads."""
    layers = list(product_layers(model))
    total: dict[str, Any] = {}
    count: dict[str, int] = {}
    for batch in values(model, sorted({layer.input for _, layer in layers}), batches):
        for node, layer in layers:
            x = batch[layer.input]
            # linear too: the columns of a batch's sum are the sum of its columns
            summed = columns(x.sum(axis=0, keepdims=True, dtype=np.float64), node, layer)
            total[layer.name] = total.get(layer.name, 0) + summed.sum(axis=2)
            count[layer.name] = count.get(layer.name, 0) + len(x) * summed.shape[2]
    return {name: total[name] / count[name] for name in total}
