"""What every pruner offers: the protocol, and the record of what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgeprune.prune.surgery import SurgeryLog


@dataclass(frozen=True)
class LayerWidth:
    """One layer's output channels."""

    name: str
    before: int
    after: int
    reason: str = ""
    """Why it was left whole; empty where it was cut."""


@dataclass(frozen=True)
class PruneReport:
    """What was asked for and what was reached."""

    method: str
    keep: float
    """Fraction of the multiply-accumulates that may stay."""
    align: int
    macs_before: int
    """Multiply-accumulates of convolutions and dense layers for one sample."""
    macs_after: int
    layers: tuple[LayerWidth, ...]

    @property
    def kept(self) -> float:
        """Fraction of the multiply-accumulates that stayed."""
        return self.macs_after / self.macs_before


class Pruner(Protocol):
    """Works in anyone's training loop, as a learning-rate scheduler does: call `step` where it should prune."""

    @property
    def log(self) -> SurgeryLog:
        """All that was removed so far."""
        ...

    @property
    def report(self) -> PruneReport:
        """How far it has come."""
        ...

    def step(self) -> None:
        """Prune, if it is time to. Parameters are replaced: an optimizer made before must be made anew."""
        ...
