"""Rank by an estimate of what the loss would do without a channel, to first order, over all layers at once.

Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019: a gate z = 1 on a channel, and

    I = E[(dL/dz)^2],   dL/dz = sum_s g_s w_s

over the weights s that the gate multiplies, squared for each batch, and averaged over all since the last removal (the
paper goes on with 0.9 of earlier averages; here nothing from before a removal counts). The paper's gate stands behind a
batch normalization; ours on what reads the channel. Around a ReLU both have the same gradient (Euler: relu(z x) = z
relu(x) for z > 0), and ours is there in networks without a normalization too.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edgeprune.errors import ModelError
from edgeprune.prune.blocks import Block
from edgeprune.prune.criterion import Remove
from edgeprune.prune.sides import Place
from edgeprune.prune.structure import Structure


class Taylor:
    """What changes the loss least goes first. Not divided by anything: contributions of all layers are in one unit."""

    name = "taylor"
    observes = True

    def __init__(self) -> None:
        self._seen = 0
        self._groups: dict[int, Tensor] = {}
        self._blocks: dict[str, float] = {}

    def observe(self, structure: Structure, remove: Remove) -> None:
        """Add one batch's squares."""
        self._seen += 1
        if remove == "blocks":
            for block in structure.blocks:
                if structure.is_left(block) and not block.whole:
                    products = (_product(None, structure.parameter(name)) for name in block.ends)
                    change = sum(float(one.sum()) for one in products if one is not None)
                    self._blocks[block.name] = self._blocks.get(block.name, 0.0) + change**2
            return
        for number, group in enumerate(structure.groups):
            if not group.whole and structure.left(number):
                squares = _gate(structure, number).square()
                self._groups[number] = self._groups[number] + squares if number in self._groups else squares

    def channels(self, structure: Structure, group: int) -> Tensor:
        """[channels]. Raises ModelError where no gradients were seen."""
        self._check()
        return self._groups[group] / self._seen

    def block(self, structure: Structure, block: Block) -> float:
        """Of a gate on its branch. Raises ModelError where no gradients were seen."""
        self._check()
        return self._blocks[block.name] / self._seen

    def removed(self) -> None:
        """Forget: the gradients of what is left are others."""
        self._seen, self._groups, self._blocks = 0, {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Sums so far."""
        return {"seen": self._seen, "groups": dict(self._groups), "blocks": dict(self._blocks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on adding."""
        self._seen, self._groups, self._blocks = state["seen"], dict(state["groups"]), dict(state["blocks"])

    def _check(self) -> None:
        if not self._seen:
            raise ModelError(
                "taylor: no gradients were seen since the last removal: make the pruner with the optimizer, let its"
                " schedule start after some batches, or call observe() after backward()"
            )


def _gate(structure: Structure, group: int) -> Tensor:
    """dL/dz of each channel's gate, [channels]: over what reads it; what it feeds back into a recurrent layer too."""
    found = structure.sums(group, _product, "in")
    for member in structure.members(group):
        if member.axis == "out" and isinstance(structure.layer(member), nn.RNNBase):
            found += structure.member_sums(group, member, _fed_back)
    return found


def _product(place: Place | None, parameter: nn.Parameter) -> Tensor | None:
    return None if parameter.grad is None else parameter.grad * parameter.detach()


def _fed_back(place: Place, parameter: nn.Parameter) -> Tensor | None:
    return _product(place, parameter) if place.dim == 1 else None
