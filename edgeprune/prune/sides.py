"""Which tensors of a layer belong to its input and output channels, and how.

Channels are counted as they can be removed. A convolution with groups loses the same position in each of its groups, so
it has as many as one group has. A recurrent layer loses a hidden unit in all of its layers and directions at once, with
the rows of all its gates and the columns that read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from edgeprune.errors import ModelError

Axis = Literal["in", "out"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Place:
    """Where a tensor holds channels."""

    tensor: str
    dim: int
    copies: int = 1
    """How often all of them stand along that dimension, one after the other: gates, groups, directions."""

    def rows(self, channels: Tensor, width: int) -> Tensor:
        """Where along `dim` some of `width` channels stand."""
        starts = torch.arange(self.copies, device=channels.device) * width
        return (starts[:, None] + channels[None, :]).flatten()


@dataclass(frozen=True)
class Side:
    """The input or the output of a layer."""

    width: int
    places: tuple[Place, ...]
    attributes: Mapping[str, int]
    """What says how many there are, in multiples of this."""


def side(layer: nn.Module, axis: Axis) -> Side:
    """Raises ModelError where surgery cannot cut that side of the layer."""
    found = _side(layer, axis)
    if found is None:
        raise ModelError(f"{type(layer).__name__} cannot lose {axis}put channels")
    return found


def width(layer: nn.Module, axis: Axis) -> int:
    """Channels on that side of a layer. Raises ModelError where surgery does not know the layer."""
    return side(layer, axis).width


def computed(layer: nn.Module) -> str:
    """The first tensor with channels that is neither a parameter nor a buffer; empty where there is none.

    Such are those of `torch.nn.utils.parametrize` and `torch.nn.utils.prune`, of weight and spectral normalizations.
    """
    own = {name for name, _ in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False))}
    axes: tuple[Axis, ...] = ("out", "in")
    places = (place.tensor for axis in axes if (found := _side(layer, axis)) for place in found.places)
    return next((name for name in places if name not in own and getattr(layer, name) is not None), "")


def gates(layer: nn.RNNBase) -> int:
    """Of a recurrent layer: 4 of an LSTM, 3 of a GRU, 1 of a plain one."""
    return {"LSTM": 4, "GRU": 3}.get(layer.mode, 1)


def directions(layer: nn.RNNBase) -> int:
    """1 or 2."""
    return 1 + layer.bidirectional


def _side(layer: nn.Module, axis: Axis) -> Side | None:
    if isinstance(layer, NORMALIZATIONS) and axis == "out":
        places = [Place(name, 0) for name in ("weight", "bias", "running_mean", "running_var")]
        return Side(layer.num_features, tuple(places), {"num_features": 1})
    if isinstance(layer, nn.Embedding) and axis == "out":
        return Side(layer.embedding_dim, (Place("weight", 1),), {"embedding_dim": 1})
    if isinstance(layer, nn.PReLU) and axis == "out" and layer.num_parameters > 1:
        return Side(layer.num_parameters, (Place("weight", 0),), {"num_parameters": 1})
    if isinstance(layer, nn.Linear):
        return _dense(layer, axis)
    if isinstance(layer, CONVOLUTIONS):
        return _convolution(layer, axis)
    if isinstance(layer, nn.RNNBase) and layer.proj_size == 0:
        return _recurrent(layer, axis)
    return None


def _dense(layer: nn.Linear, axis: Axis) -> Side:
    if axis == "out":
        return Side(layer.out_features, (Place("weight", 0), Place("bias", 0)), {"out_features": 1})
    return Side(layer.in_features, (Place("weight", 1),), {"in_features": 1})


def _convolution(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, axis: Axis) -> Side | None:
    groups = layer.groups
    if groups == layer.in_channels == layer.out_channels and groups > 1:  # depthwise: in is out
        attributes = {"out_channels": 1, "in_channels": 1, "groups": 1}
        return Side(groups, (Place("weight", 0), Place("bias", 0)), attributes) if axis == "out" else None
    if axis == "out":
        places = (Place("weight", 0, groups), Place("bias", 0, groups))
        return Side(layer.out_channels // groups, places, {"out_channels": groups})
    return Side(layer.in_channels // groups, (Place("weight", 1),), {"in_channels": groups})


def _recurrent(layer: nn.RNNBase, axis: Axis) -> Side:
    suffixes = ("", "_reverse")[: directions(layer)]
    if axis == "in":
        return Side(layer.input_size, tuple(Place(f"weight_ih_l0{one}", 1) for one in suffixes), {"input_size": 1})
    return Side(layer.hidden_size, tuple(_hidden(layer, suffixes)), {"hidden_size": 1})


def _hidden(layer: nn.RNNBase, suffixes: tuple[str, ...]) -> Iterator[Place]:
    for number in range(layer.num_layers):
        for suffix in suffixes:
            of = f"l{number}{suffix}"
            for kind in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if layer.bias else ())):
                yield Place(f"{kind}_{of}", 0, gates(layer))
            yield Place(f"weight_hh_{of}", 1)
            if number:
                yield Place(f"weight_ih_{of}", 1, directions(layer))
