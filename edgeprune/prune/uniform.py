"""Rank so that every layer loses the same fraction: of each the channels with the smallest weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeprune.prune.blocks import Block
from edgeprune.prune.magnitude import Magnitude
from edgeprune.prune.structure import Structure

GOLDEN = (math.sqrt(5) - 1) / 2


class Uniform(Magnitude):
    """A channel's importance is the fraction of its group with smaller weights: all groups lose a tenth first.

    Blocks go by numbers that are spread evenly (i times the golden ratio, modulo 1), so that any few of them are too.
    """

    name = "uniform"

    def channels(self, structure: Structure, group: int) -> Tensor:
        """[channels], in [0, 1): of the dense group, so that what is gone counts as lost already."""
        left = structure.left(group)
        total = structure.groups[group].channels
        order = super().channels(structure, group)[left].argsort(stable=True)
        ranks = torch.zeros(total, dtype=torch.float64)
        ranks[torch.tensor(left)[order]] = (torch.arange(len(left)) + total - len(left)).double() / total
        return ranks

    def block(self, structure: Structure, block: Block) -> float:
        """The same whatever its weights are."""
        return ((1 + structure.blocks.index(block)) * GOLDEN) % 1
