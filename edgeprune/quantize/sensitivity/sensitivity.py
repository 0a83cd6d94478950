"""How much each layer's precision, and each of its output channels', is predicted to cost."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import CorruptError
from edgeprune.quantize.spec import LIMITS

PRECISIONS = tuple(LIMITS)
"""Those that layers are judged at."""


@dataclass(frozen=True)
class LayerSensitivity:
    """Of one layer, all others in float."""

    losses: dict[str, float]
    """By precision: by how much the loss rises, in nats per sample; float is 0."""
    channels: NDArray[np.float64]
    """[C]: by how much it rises where this output channel's weights go from 8 to 4 bits."""


@dataclass(frozen=True)
class Sensitivity:
    """Of all layers, by the names of their weight initializers."""

    layers: dict[str, LayerSensitivity]
    method: str
    """`curvature` or `divergence`."""
    sample_forwards: float
    """What it took: one is one sample through the network; a backward pass counts as two."""


def write_sensitivity(sensitivity: Sensitivity, path: Path) -> None:
    """As JSON, in which equal sensitivities are equal bytes."""
    record = asdict(sensitivity)
    record["layers"] = {
        weight: {"losses": one.losses, "channels": one.channels.tolist()}
        for weight, one in sorted(sensitivity.layers.items())
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_sensitivity(path: Path) -> Sensitivity:
    """What `write_sensitivity` wrote. Raises CorruptError."""
    try:
        record = json.loads(path.read_bytes())
        layers = {
            weight: LayerSensitivity(dict(one["losses"]), np.array(one["channels"], np.float64))
            for weight, one in record["layers"].items()
        }
        return Sensitivity(layers, str(record["method"]), float(record["sample_forwards"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"{path}: no sensitivities ({type(error).__name__} {error}): measure them again") from error
