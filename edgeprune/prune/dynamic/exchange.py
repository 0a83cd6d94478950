"""Choose connections of one layer: which are active at first, which are dropped, and which are grown.

With a pattern N:M, N of each M weights that follow each other along a layer's inputs are active: what NVIDIA's sparse
tensor cores execute for 2:4 (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgeprune.errors import ConfigError
from edgeprune.prune.masks import lowest


@dataclass(frozen=True)
class Pattern:
    """N of each M."""

    n: int
    m: int

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Of `2:4`. Raises ConfigError."""
        n, _, m = text.partition(":")
        if not (n.isdecimal() and m.isdecimal() and 0 < int(n) < int(m)):
            raise ConfigError(f"pattern {text!r}: write how many of how many weights stay, as 2:4")
        return cls(int(n), int(m))

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    def whole(self, shape: tuple[int, ...]) -> str:
        """Why a weight [outputs, inputs, ...] cannot follow it; empty where it can."""
        return f"its {shape[1]} inputs are no multiple of {self.m}" if shape[1] % self.m else ""

    def groups(self, weight: Tensor) -> Tensor:
        """A weight [outputs, inputs, ...] as [groups, M]."""
        return weight.movedim(1, -1).reshape(-1, self.m)

    def weight(self, groups: Tensor, shape: torch.Size) -> Tensor:
        """And back."""
        moved = (shape[0], *shape[2:], shape[1])
        return groups.reshape(moved).movedim(-1, 1)


def first_active(scores: Tensor, count: int, pattern: Pattern | None) -> Tensor:
    """The `count` weights with the highest scores, or the N highest of each M; booleans of their shape."""
    if pattern is None:
        return ~lowest(scores, torch.ones_like(scores, dtype=torch.bool), scores.numel() - count)
    groups = pattern.groups(scores)
    return pattern.weight(_highest(groups, torch.full((len(groups), 1), pattern.n)), scores.shape)


def exchanged(
    active: Tensor, scores: Tensor, gradients: Tensor, drop: int, grow: int, pattern: Pattern | None
) -> Tensor:
    """Which are active after the `drop` with the lowest scores went and the `grow` with the largest gradients came.

    One that was just dropped may come back, and then was never away: so does the code of RigL's authors, where the
    paper can be read otherwise. With a pattern each group grows as many as it lost.
    """
    kept = active & ~lowest(scores, active, drop)
    if pattern is None:
        return kept | lowest(-gradients.abs(), ~kept, grow)
    left = pattern.groups(kept)
    free = torch.where(left, -torch.inf, pattern.groups(gradients.abs()))
    missing = pattern.n - left.sum(1, keepdim=True)
    return kept | pattern.weight(_highest(free, missing), active.shape)


def _highest(groups: Tensor, counts: Tensor) -> Tensor:
    """Of each row [M] the `counts` highest, booleans."""
    ranks = groups.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return ranks < counts.to(groups.device)
