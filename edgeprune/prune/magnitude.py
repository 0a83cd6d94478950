"""Rank by the size of the weights.

A channel's importance is the mean over the layers it runs through of the sum of its squared weights there, divided by
the mean over its group, so that groups can be compared: the group L2 norm of Fang et al., "DepGraph: Towards Any
Structural Pruning", CVPR 2023, section 3.3. A block's is the mean square of what its branch ends in: of a residual
block the scale of its last normalization.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.prune.blocks import Block
from edgeprune.prune.criterion import Remove
from edgeprune.prune.sides import Place
from edgeprune.prune.structure import Structure


class Magnitude:
    """The smallest weights go first, over all layers at once."""

    name = "magnitude"
    observes = False

    def observe(self, structure: Structure, remove: Remove) -> None:
        """Gradients do not matter."""

    def channels(self, structure: Structure, group: int) -> Tensor:
        """The group L2 norm of each channel, [channels]; 1 on average.

        A depthwise filter counts as any layer does; Torch-Pruning 1.6 leaves it out.
        """
        scores = structure.sums(group, _squares)
        left = structure.left(group)
        scores /= len([member for member in structure.members(group) if _is_weighted(structure.layer(member))])
        mean = scores[left].mean()
        return scores / mean if mean > 0 else scores

    def block(self, structure: Structure, block: Block) -> float:
        """Mean square of the weights that its branch ends in."""
        weights = [one for name in block.ends if "weight" in name for one in (structure.parameter(name),)]
        return float(torch.cat([one.detach().flatten().double().cpu() for one in weights]).square().mean())

    def removed(self) -> None:
        """Weights are what they are."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to go on from."""


def _squares(place: Place, parameter: nn.Parameter) -> Tensor | None:
    return parameter.detach().double().square() if place.tensor.startswith("weight") else None


def _is_weighted(layer: nn.Module) -> bool:
    return any(name.startswith("weight") for name, _ in layer.named_parameters(recurse=False))
