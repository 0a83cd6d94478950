"""Stand-ins for recurrent layers, through which Torch-Pruning can follow channels.

It knows dense layers, and they have the same two sides: what is read, and the hidden units that are given.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from edgeprune.prune.sides import directions


class StandIn(nn.Module):
    """One dense layer for each direction of a recurrent layer; gives tensors of the shapes that it gives."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        dense = [nn.Linear(layer.input_size, layer.hidden_size) for _ in range(directions(layer))]
        self.directions = nn.ModuleList(dense)
        self.layers, self.batch_first = layer.num_layers, layer.batch_first
        self.has_cell = layer.mode == "LSTM"

    def forward(self, x: Tensor, state: object = None) -> tuple[Tensor, object]:
        """Outputs [N, T, D * H], and a state [N, H] of each layer and direction, to be told apart by index."""
        given = [dense(x) for dense in self.directions]
        last = [one.select(1 if self.batch_first and one.ndim == 3 else 0, -1) for one in given]
        state = tuple(last * self.layers) if self.layers * len(last) > 1 else last[0].unsqueeze(0)
        return torch.cat(given, -1) if len(given) > 1 else given[0], (state, state) if self.has_cell else state


def followable(model: nn.Module) -> tuple[nn.Module, dict[nn.Module, str]]:
    """A copy with stand-ins for its recurrent layers; by module of it, the name of the layer in `model`."""
    stood = copy.deepcopy(model)
    names: dict[nn.Module, str] = {}
    for name, layer in list(stood.named_modules()):
        names[layer] = name
        if isinstance(layer, nn.RNNBase) and layer.proj_size == 0 and name:
            parent, _, own = name.rpartition(".")
            stand_in = StandIn(layer)
            setattr(stood.get_submodule(parent), own, stand_in)
            names |= dict.fromkeys(stand_in.directions, name)
    return stood, names
