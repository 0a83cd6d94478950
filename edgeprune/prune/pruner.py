"""What every pruner offers: the protocol, and the record of what it did.

A pruner stands in anyone's training loop, as a learning-rate scheduler does. What it looks at, it takes itself: the
gradients before each step of the optimizer that it was given (`Optimizer.register_step_pre_hook`), activations through
hooks of its own, a reward through a callable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from edgeprune.prune.surgery import SurgeryLog


@dataclass(frozen=True)
class LayerWidth:
    """One layer's output channels."""

    name: str
    before: int
    after: int
    """0 where it is in a removed block."""
    reason: str = ""
    """Why it was left whole; empty where it was cut."""


@dataclass(frozen=True)
class LayerConnections:
    """The weights of one parameter."""

    name: str
    before: int
    after: int
    """That are active; the others are zero."""
    reason: str = ""
    """Why all of them stayed."""


@dataclass(frozen=True)
class Event:
    """One time that something was removed."""

    step: int
    """The call of `step`, from 1."""
    kept: float
    """Fraction of the cost that was left afterwards."""
    layers: dict[str, int]
    """Output channels that were removed, by layer."""
    blocks: tuple[str, ...] = ()
    dropped: int = 0
    """Connections: single weights that were set to zero."""
    grown: int = 0
    """Connections that were zero, and are no longer held at it."""


@dataclass(frozen=True)
class PruneReport:
    """What was asked for, what was reached, and when."""

    method: str
    keep: float
    """Fraction of the cost that may stay."""
    align: int
    cost: str
    """What is kept a fraction of: `macs`, `weights`, `latency`."""
    cost_before: float
    """Milliseconds of a latency."""
    cost_after: float
    macs_before: int
    """Multiply-accumulates of convolutions, dense and recurrent layers and attention for one sample."""
    macs_after: int
    layers: tuple[LayerWidth, ...]
    blocks: tuple[str, ...] = ()
    """That were removed."""
    events: tuple[Event, ...] = ()
    unfollowed: tuple[str, ...] = ()
    """Parts that could not be followed, and why: channels there are as they were."""
    connections: tuple[LayerConnections, ...] = ()
    """Where single weights are dropped."""
    training_flops: float = 0.0
    """Of all steps so far, as `training_flops` counts them; 0 where they are not counted."""
    training_flops_dense: float = 0.0
    """Of the unpruned network in as many steps."""

    @property
    def kept(self) -> float:
        """Fraction of the cost that stayed."""
        return self.cost_after / self.cost_before


class Pruner(Protocol):
    """Works in anyone's training loop: `step` after the optimizer's, and its state beside the optimizer's."""

    @property
    def log(self) -> SurgeryLog:
        """All that was removed so far."""
        ...

    @property
    def report(self) -> PruneReport:
        """How far it has come."""
        ...

    def step(self, loss: Tensor | None = None) -> bool:
        """Prune, if it is time to; whether anything was removed. `loss` is the batch's: some methods weigh by it.

        Parameters that are cut become new ones, which the optimizer that the pruner was made with goes on with.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that it needs to go on: plain values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Cuts the dense network, so load this first, then the network's and the optimizer's."""
        ...
