"""Dynamic sparse training (RigL): the weakest connections are dropped, and others grown where the gradient is largest.

Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020, written from the paper. There a step that
exchanges connections changes no weight (algorithm 1); here the optimizer has stepped before, as in every other step.
Masks that never change and magnitude pruning at once are the same training with other `Updates`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.errors import ConfigError, ModelError
from edgeprune.prune.connections import find_connections
from edgeprune.prune.dynamic.distribution import Distribution, active_counts
from edgeprune.prune.dynamic.exchange import Pattern, exchanged, first_active
from edgeprune.prune.dynamic.updates import Updates
from edgeprune.prune.masks import Masks
from edgeprune.prune.optimizer_state import check
from edgeprune.prune.pruner import Event, LayerConnections, LayerWidth, PruneReport
from edgeprune.prune.structure import channels_of
from edgeprune.prune.surgery import SurgeryLog
from edgeprune.prune.training_flops import TrainingFlops
from edgeprune.prune.trial import Example, Trial

Begin = Literal["random", "magnitude"]
DropBy = Literal["magnitude", "gradient"]


class DynamicPruner:
    """Keeps a network sparse while an optimizer trains it; no weight changes its shape."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Example,
        optimizer: Optimizer,
        *,
        updates: Updates,
        sparsity: float | None = None,
        pattern: str | None = None,
        distribution: Distribution = "erdos-renyi-kernel",
        drop_by: DropBy = "magnitude",
        begin: Begin = "random",
        samples: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Weights are set to zero at once where the training begins sparse, and after every step of the optimizer.

        `sparsity` is the fraction of the weights of convolutions, dense and recurrent layers that ends up zero, given
        out by `distribution`; or `pattern` says so, `2:4`. `begin` says which are active at first: of drawn weights
        some at random, by `seed`, scaled up for the missing ones; of a network that was trained the large ones, as they
        are. `samples` are those of a step on average, for the count of FLOPs.

        Raises ConfigError where the sparsity cannot be reached, and says which can.
        """
        check(optimizer, model)
        self.model, self.optimizer, self.updates = model, optimizer, updates
        self.distribution, self.drop_by = distribution, drop_by
        self.pattern = None if pattern is None else Pattern.parse(pattern)
        self._connections, self._other_macs = find_connections(model, Trial.of(model, example_inputs))
        if not self._connections:
            raise ModelError(f"{type(model).__name__}: has no convolution, dense or recurrent layer: use --pruner none")
        self._samples, self._flops = samples, TrainingFlops()
        self._sizes = {one.name: model.get_parameter(one.name).numel() for one in self._connections}
        self._whole = self._left_whole()
        self.sparsity = self._asked(sparsity)
        updates.check(self.sparsity)
        self._counts(1 - self.sparsity)  # refuse what cannot be reached
        self._gradients: dict[str, Tensor] = {}
        self._steps, self._events = 0, list[Event]()
        self._hook = optimizer.register_step_pre_hook(lambda *_: self._look())  # before the gradients become sparse
        self.masks = Masks(model, optimizer)
        self.masks.set(self._begun(begin, seed))
        if begin == "random":
            self._rescale()

    @property
    def log(self) -> SurgeryLog:
        """Nothing: layers keep their shapes."""
        return SurgeryLog()

    @property
    def report(self) -> PruneReport:
        """What every layer has left."""
        counts, dense = self.masks.counts(), sum(self._sizes.values())
        widths = {name: channels_of(layer) for name, layer in self.model.named_modules() if channels_of(layer)}
        return PruneReport(
            "dynamic",
            1 - self.sparsity,
            1,
            "weights",
            dense,
            sum(counts.values()),
            round(self._macs({})),
            round(self._macs(counts)),
            tuple(LayerWidth(name, one, one, "its connections go, not its channels") for name, one in widths.items()),
            events=tuple(self._events),
            connections=tuple(
                LayerConnections(name, size, counts[name], self._whole.get(name, ""))
                for name, size in self._sizes.items()
            ),
            training_flops=self._flops.spent,
            training_flops_dense=self._flops.dense,
        )

    def step(self, loss: Tensor | None = None) -> bool:
        """After the optimizer's: exchange connections, if it is time to; whether any were.

        Raises ModelError where the optimizer that it was made with did not step before.
        """
        self._steps += 1
        due = self.updates.is_due(self._steps)
        counts = self.masks.counts()
        self._flops.add(self._macs(counts), self._macs({}), self._samples, dense_gradient=due and self.updates.regrows)
        if not due:
            return False
        if not self._gradients:
            raise ModelError(
                "dynamic: no gradients were seen: call step() after that of the optimizer that the pruner was made with"
            )
        after = self._counts(self.updates.active(self._steps, self.sparsity))
        dropped = grown = 0
        active = {name: self.masks.active(name) for name in self._sizes}
        for name, gradient in self._gradients.items():
            drop = self.updates.dropped(self._steps, counts[name], after[name])
            grow = drop - counts[name] + after[name]
            active[name] = self._exchanged(name, active[name], gradient, drop, grow)
            dropped, grown = dropped + drop, grown + grow
        self._gradients = {}
        self.masks.set(active)
        left = sum(self.masks.counts().values()) / sum(self._sizes.values())
        self._events.append(Event(self._steps, left, {}, dropped=dropped, grown=grown))
        return True

    def state_dict(self) -> dict[str, Any]:
        """The masks, and what was counted."""
        return {
            "steps": self._steps,
            "masks": self.masks.state_dict(),
            "events": [(one.step, one.kept, one.dropped, one.grown) for one in self._events],
            "flops": (self._flops.spent, self._flops.dense),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises ModelError where the state is another network's."""
        if state["masks"].keys() != self._sizes.keys():
            raise ModelError("the pruner's state is another network's: load it into the network that it was made for")
        self.masks.load_state_dict(state["masks"])
        self._steps = state["steps"]
        self._events = [Event(step, kept, {}, dropped=gone, grown=new) for step, kept, gone, new in state["events"]]
        self._flops = TrainingFlops(*state["flops"])

    def _look(self) -> None:
        """Before the optimizer's step: keep the dense gradients if they will be asked for."""
        if self.updates.is_due(self._steps + 1):
            found = {name: self.model.get_parameter(name) for name in self._sizes if name not in self._whole}
            self._gradients = {
                name: torch.zeros_like(one) if one.grad is None else one.grad.clone() for name, one in found.items()
            }

    def _exchanged(self, name: str, active: Tensor, gradient: Tensor, drop: int, grow: int) -> Tensor:
        weight = self.model.get_parameter(name).detach()
        scores = (weight if self.drop_by == "magnitude" else gradient).abs()
        if self.updates.kind == "one-shot":
            return first_active(scores, weight.numel() - drop, self.pattern)
        return exchanged(active, scores, gradient, drop, grow, self.pattern)

    def _begun(self, begin: Begin, seed: int) -> dict[str, Tensor]:
        """Which connections are active before the first step."""
        generator = torch.Generator().manual_seed(seed)
        counts = self._counts(self.updates.active(0, self.sparsity))
        found = {}
        for name, size in self._sizes.items():
            weight = self.model.get_parameter(name).detach().cpu()
            scores = weight.abs() if begin == "magnitude" else torch.rand(weight.shape, generator=generator)
            pattern = None if counts[name] == size else self.pattern
            found[name] = first_active(scores, counts[name], pattern)
        return found

    def _rescale(self) -> None:
        """Weights were drawn for as many inputs as a dense layer has: those that stay make up for the others.

        Evci et al., "Gradient Flow in Sparse Neural Networks and How Lottery Tickets Win", AAAI 2022, section 3.1, for
        a layer as a whole.
        """
        for name, count in self.masks.counts().items():
            self.model.get_parameter(name).detach().mul_(math.sqrt(self._sizes[name] / count))

    def _counts(self, active: float) -> dict[str, int]:
        """What every layer keeps where the network keeps that fraction."""
        if self.pattern is None or active == 1:
            shapes = {one.name: one.shape for one in self._connections}
            return active_counts(self.distribution, shapes, active, self._whole)
        n, m = self.pattern.n, self.pattern.m
        return {name: size if name in self._whole else size // m * n for name, size in self._sizes.items()}

    def _left_whole(self) -> dict[str, str]:
        """Layers that keep all connections, and why."""
        whole = {one.name: one.whole for one in self._connections if one.whole}
        if self.pattern is not None:
            found = {one.name: self.pattern.whole(one.shape) for one in self._connections}
            return {name: why for name, why in found.items() if why} | whole
        if self.distribution == "uniform":
            whole.setdefault(self._connections[0].name, "it is the first, and small")
        return whole

    def _asked(self, sparsity: float | None) -> float:
        if self.pattern is None:
            if sparsity is None or not 0 < sparsity < 1:
                raise ConfigError(f"sparsity {sparsity}: write the fraction of the weights that goes, above 0, below 1")
            return sparsity
        if sparsity is not None:
            raise ConfigError(f"sparsity {sparsity:g} and the pattern {self.pattern} exclude each other: leave one out")
        if self.updates.kind == "coarse":
            raise ConfigError(
                f"coarse updates raise the sparsity bit by bit, a pattern {self.pattern} has one: use fine"
            )
        if len(self._whole) == len(self._sizes):
            raise ConfigError(f"pattern {self.pattern}: no layer has a multiple of {self.pattern.m} inputs")
        return 1 - sum(self._counts(0).values()) / sum(self._sizes.values())

    def _macs(self, counts: Mapping[str, int]) -> float:
        """For one sample, with so many connections in each layer; all of them where nothing is said."""
        sizes = self._sizes
        return self._other_macs + sum(
            one.macs * counts.get(one.name, sizes[one.name]) / sizes[one.name] for one in self._connections
        )
