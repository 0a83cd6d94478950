"""The seam of the baselines: what ranks channels and blocks for removal."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from torch import Tensor

from edgeprune.prune.blocks import Block
from edgeprune.prune.structure import Structure

Remove = Literal["channels", "blocks"]


class Criterion(Protocol):
    """Says how much each channel or block matters; what matters least is removed first."""

    name: str
    """For people."""
    observes: bool
    """Whether it must see gradients before it can say anything."""

    def observe(self, structure: Structure, remove: Remove) -> None:
        """Look at the gradients of one batch, before they change a weight."""
        ...

    def channels(self, structure: Structure, group: int) -> Tensor:
        """Importance of the channels of the dense group, [channels]; of those that are gone it does not matter."""
        ...

    def block(self, structure: Structure, block: Block) -> float:
        """Importance of a block."""
        ...

    def removed(self) -> None:
        """Something was removed: what was seen before counts no more."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What it has seen."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...
