"""What can be done with each layer, and what is known of it: the options between which a plan chooses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.graph.layers import PRODUCTS, WeightedLayer
from edgeprune.quantize.allocation.allocate import Option
from edgeprune.quantize.spec import LayerQuant

SHARES = (0.125, 0.25, 0.5)
"""Of a layer's output channels that may keep 8 bits beside others with 4: those that lose most."""
PER_CHANNEL_BYTES = 4 + 1
"""Scale and zero point."""
ORDER_BYTES = 4
"""Where a channel belongs, in a layer whose channels have different bits."""
CAST_BYTES, JOIN_BYTES = 140, 420
"""Of the nodes and names that such a layer needs besides; from files of ResNet-20 and ResNet-56."""


def options_of(
    layer: WeightedLayer,
    losses: Mapping[str, float],
    channels: NDArray[Any],
    ms: Mapping[str, float] | None = None,
) -> tuple[Option, ...]:
    """Float, 8 bits, 4 bits, and 4 bits but for the most important channels.

    `losses`: predicted rise of the loss by precision; `channels` [C]: that of 4 instead of 8 bits in one channel; `ms`:
    what the layer takes in `fp32` and in `int8`, which 4 bits are multiplied in; None: not known.
    """
    takes = {"fp32": 0.0, "int8": 0.0} if ms is None else ms
    count, numbers = layer.weight_shape[layer.axis], math.prod(layer.weight_shape)
    eight = numbers + PER_CHANNEL_BYTES * count
    four = math.ceil(numbers / 2) + PER_CHANNEL_BYTES * count + CAST_BYTES
    found = [
        Option(LayerQuant("fp32", "a narrower one loses too much"), 0.0, 4 * numbers, 4 * numbers, takes["fp32"]),
        Option(LayerQuant("int8", "4 bits lose too much here"), losses["int8"], eight, eight, takes["int8"]),
        Option(LayerQuant("int4", "loses least for its size"), losses["int4"], four, eight, takes["int8"]),
    ]
    if layer.op in PRODUCTS:
        most = np.argsort(-channels, kind="stable")
        rest = max(losses["int4"] - losses["int8"], 0.0)
        shares = channels / channels.sum() if channels.sum() > 0 else np.zeros(count)
        for share in SHARES:
            wide = most[: round(share * count)]
            if 0 < len(wide) < count:
                loss = losses["int4"] - rest * float(shares[wide].sum())
                size = four + math.ceil(numbers * len(wide) / count / 2) + ORDER_BYTES * count + JOIN_BYTES
                chosen = LayerQuant(
                    "int4", f"the {len(wide)} of {count} channels that lose most keep 8 bits", _ints(wide)
                )
                found.append(Option(chosen, loss, size, eight, takes["int8"]))
    return tuple(found)


def _ints(numbers: Sequence[int] | NDArray[Any]) -> tuple[int, ...]:
    return tuple(sorted(int(number) for number in numbers))
