"""Remove, while a network is trained, what contributes least to its loss: neurons, and single connections besides.

Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, written from the paper: the importance
I of what is removed is the mean square of the gradient of a gate on it, over the batches since the last removal.
sqrt(I) is in units of the loss, so its sum over all that goes is how far the loss is expected to move at most, to first
order; over the mean loss that is the relative change which a threshold bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.errors import ConfigError, ModelError
from edgeprune.prune.connections import find_connections
from edgeprune.prune.contributions import Contributions
from edgeprune.prune.cost import Price
from edgeprune.prune.masks import Masks
from edgeprune.prune.pruner import Event, LayerConnections, PruneReport
from edgeprune.prune.schedule import Schedule
from edgeprune.prune.structure import Piece, Structure
from edgeprune.prune.structured import StructuredPruner
from edgeprune.prune.taylor import Taylor
from edgeprune.prune.training_flops import TrainingFlops
from edgeprune.prune.trial import Example


class LossPruner(StructuredPruner):
    """Neurons (channels, hidden units, heads) by the gradient of their gates, connections by that of their own."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Example | Structure,
        optimizer: Optimizer,
        *,
        schedule: Schedule,
        threshold: float | None = None,
        keep: float = 0.5,
        connections: float = 0.0,
        samples: float = 1.0,
        cost: str = "macs",
        prices: Sequence[Price] | None = None,
        per_cost: bool = False,
        fractions: Mapping[str, float] | None = None,
        align: int = 1,
    ) -> None:
        """At each removal of the schedule goes what a `threshold` of the loss's relative change allows, or a budget.

        With a threshold neurons go first, and connections take what they leave of it. Without, neurons go until the
        fraction `keep` of the cost is left, as the schedule has it. `connections` is the most of those that goes, as a
        fraction; 0: none. `samples` are those of a step on average, for the count of FLOPs; all else is as
        `StructuredPruner` has it.

        Raises ConfigError where that cannot be reached.
        """
        if threshold is not None and not threshold > 0:
            raise ConfigError(f"threshold {threshold:g}: write the relative change of the loss, as 0.01")
        if not 0 <= connections < 1:
            raise ConfigError(f"connections {connections:g}: write the fraction that may go, below 1")
        super().__init__(
            model,
            example_inputs,
            Taylor(),
            optimizer=optimizer,
            keep=keep if threshold is None else 1.0,
            cost=cost,
            prices=prices,
            per_cost=per_cost,
            fractions=fractions,
            align=align,
            schedule=schedule,
        )
        self.threshold, self.connections = threshold, connections
        self._samples, self._flops = samples, TrainingFlops()
        self._loss, self._batches, self._left = torch.zeros(()), 0, 0.0
        found, _ = find_connections(model, self.structure.trial) if connections else ((), 0)
        self._sizes = {one.name: torch.Size(one.shape).numel() for one in found if not one.whole}
        self._contributions = Contributions(model, self._sizes)
        self._masks = Masks(model, optimizer)

    @property
    def report(self) -> PruneReport:
        """What is left of channels and connections, and what the training has cost so far."""
        active = self._masks.counts()
        return replace(
            super().report,
            method="loss",
            connections=tuple(
                LayerConnections(name, size, active.get(name, self.model.get_parameter(name).numel()))
                for name, size in self._sizes.items()
            ),
            training_flops=self._flops.spent,
            training_flops_dense=self._flops.dense,
        )

    def observe(self) -> None:
        """Look at the gradients as they stand; the optimizer does this by itself."""
        super().observe()
        self._contributions.observe()

    def step(self, loss: Tensor | None = None) -> bool:
        """Remove what contributes least, if it is time to; whether anything went.

        Raises ModelError where the loss is not given, and a threshold asks for it.
        """
        if loss is None and self.threshold is not None:
            raise ModelError("loss: a threshold of its relative change needs the batch's loss: pruner.step(loss)")
        if loss is not None:
            self._loss, self._batches = self._loss.to(loss.device) + loss.detach(), self._batches + 1
        self._flops.add(self._macs.total, self._macs_before, self._samples)
        if not self.schedule.is_due(self._steps + 1) or not self.structure.is_finite:
            return super().step()
        self._left = self._allowed()
        with self._contributions.cut_along():
            removed = super().step()
        dropped = self._drop()
        self.criterion.removed()
        self._contributions.clear()
        self._loss, self._batches = torch.zeros(()), 0
        return removed or dropped > 0

    def state_dict(self) -> dict[str, Any]:
        """What was removed and dropped, and what was seen since."""
        return super().state_dict() | {
            "loss": (float(self._loss), self._batches),
            "contributions": self._contributions.state_dict(),
            "masks": self._masks.state_dict(),
            "flops": (self._flops.spent, self._flops.dense),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Cuts the dense network, so load this first, then the network's and the optimizer's."""
        super().load_state_dict(state)
        self._loss, self._batches = torch.tensor(state["loss"][0]), state["loss"][1]
        self._contributions.load_state_dict(state["contributions"])
        self._masks.load_state_dict(state["masks"])
        self._flops = TrainingFlops(*state["flops"])

    def _allowed(self) -> float:
        """How far the loss may move at this removal, in its own units."""
        if self.threshold is None:
            return 0.0
        return self.threshold * float(self._loss) / self._batches

    def _chosen(self, progress: float) -> Iterator[Piece]:
        if self.threshold is None:
            yield from super()._chosen(progress)
            return
        yield from self._by_fraction(progress)
        for piece in self._ranked(self._bill.copy()):
            importance = self.criterion.channels(self.structure, piece.group)
            change = float(importance[list(piece.channels)].sqrt().sum())
            if change > self._left:
                return
            self._left -= change
            yield piece

    def _drop(self) -> int:
        """Set the connections to zero, and hold them there, that contribute least; how many are new."""
        if not self._sizes:
            return 0
        found = [self.model.get_parameter(name) for name in self._sizes]
        zeros, total = sum(int((one == 0).sum()) for one in found), sum(one.numel() for one in found)
        share = self.connections * (self.schedule.progress(self._steps) if self.threshold is None else 1)
        allowed = math.inf if self.threshold is None else self._left
        dropped = self._contributions.drop(self._sizes, round(share * total) - zeros, allowed)
        self._masks.set_by_zeros(self._sizes)
        if dropped:
            self._note(dropped)
        return dropped

    def _note(self, dropped: int) -> None:
        if self._events and self._events[-1].step == self._steps:
            self._events[-1] = replace(self._events[-1], dropped=dropped)
        else:
            self._events.append(Event(self._steps, self._bill.total / self._before, {}, dropped=dropped))
