"""The layers of a network that an agent walks at every decision point, and what its actions do to them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.errors import ConfigError, ModelError
from edgeprune.prune.agent.observation import FEATURES, Watch, logarithm
from edgeprune.prune.connections import find_connections
from edgeprune.prune.contributions import Contributions
from edgeprune.prune.cost import PRICES, Bill, Price, check_budget, macs, weights
from edgeprune.prune.masks import Masks
from edgeprune.prune.optimizer_state import check
from edgeprune.prune.structure import Piece, Structure
from edgeprune.prune.taylor import Taylor
from edgeprune.prune.trial import Example


class Action(IntEnum):
    """What is done to one layer at one decision point."""

    KEEP = 0
    NEURONS = 1
    CONNECTIONS = 2


@dataclass(frozen=True)
class Left:
    """Fractions of the dense network."""

    parameters: float
    """Weights that are there and not zero."""
    flops: float
    latency: float
    """As a table foretells it; that of `flops` where there is none."""


@dataclass(frozen=True)
class _Layer:
    name: str
    group: int
    """Of its outputs; -1 where they must stay."""
    weights: tuple[str, ...]
    """Parameters whose connections may go."""


class Walk:
    """Follows a training, and prunes its network between two steps of the optimizer."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Example | Structure,
        optimizer: Optimizer,
        *,
        every: int,
        decisions: int,
        k: float = 0.125,
        keep: float = 0.5,
        cost: str = "macs",
        prices: Sequence[Price] | None = None,
        align: int = 1,
        window: int = 8,
    ) -> None:
        """A decision point comes after every `every` steps, `decisions` times.

        An action takes the fraction `k` of a dense layer's neurons, in multiples of `align`, or of its connections:
        those that contribute least to the loss (Molchanov et al. 2019) over the last `window` batches. Neurons stay
        once the fraction `keep` of the cost is reached. Raises ConfigError for what cannot be, ModelError where there
        is nothing to prune.
        """
        if every < 1 or decisions < 1:
            raise ConfigError(f"a decision every {every} steps, {decisions} times: both must be 1 or more")
        if not 0 < k < 1:
            raise ConfigError(f"k {k:g}: write the fraction of a layer that an action takes, above 0, below 1")
        check_budget(keep, cost if prices is None else None, align)
        check(optimizer, model)
        self.structure = example_inputs if isinstance(example_inputs, Structure) else Structure(model, example_inputs)
        self.structure.optimizer = optimizer
        self.model, self.optimizer, self.keep, self.cost, self.align = model, optimizer, keep, cost, align
        self._every, self._decisions, self._k, self._window = every, decisions, k, window
        trial = self.structure.trial
        self.macs, self.weights = Bill(macs(trial)), Bill(weights(trial))
        self.bill = Bill(tuple(prices) if prices is not None else PRICES[cost](trial))
        self._timed = prices is not None
        self._dense = {"macs": self.macs.total, "weights": self.weights.total, "cost": self.bill.total}
        self.layers = tuple(self._found())
        if not self.layers:
            raise ModelError(f"{type(model).__name__}: has no convolution, dense or recurrent layer: use --pruner none")
        self._contributions = Contributions(model, [name for layer in self.layers for name in layer.weights])
        self.sizes = {name: model.get_parameter(name).numel() for name in self._contributions.names}
        """Weights of each parameter in the dense network."""
        self.architecture = {layer.name: tuple(model.get_parameter(layer.weights[0]).shape) for layer in self.layers}
        """Shape of every layer's weights in the dense network: what a policy is learned for."""
        self._taylor, self._watch = Taylor(), Watch(model, [layer.name for layer in self.layers])
        self._pieces, self._thinned = list[Piece](), dict[int, int]()
        self.steps, self._loss, self._first_loss = 0, torch.zeros(()), 0.0
        self._watch.watching = self._is_near(1)
        self._hook = optimizer.register_step_pre_hook(lambda *_: self._observe())
        self.masks = Masks(model, optimizer)

    @property
    def decision(self) -> int:
        """How many decision points have passed or are reached, from 1."""
        return self.steps // self._every

    @property
    def is_due(self) -> bool:
        """Whether the training stands at a decision point."""
        return self.steps > 0 and self.steps % self._every == 0 and self.decision <= self._decisions

    @property
    def left(self) -> Left:
        """What the network still costs, with what was chosen in this walk."""
        zeros = sum(self._zeros(number) for number in range(len(self.layers)))
        flops = self.macs.total / self._dense["macs"]
        timed = self.bill.total / self._dense["cost"] if self._timed else flops
        return Left((self.weights.total - zeros) / self._dense["weights"], flops, timed)

    def step(self, loss: Tensor | None = None) -> bool:
        """After each step of the optimizer, with the batch's loss; it removes nothing by itself."""
        self.steps += 1
        if self._watch.watching and loss is not None:
            self._loss = self._loss.to(loss.device) + loss.detach()
        self._watch.watching = self._is_near(self.steps + 1)
        if self.steps > self._decisions * self._every:
            self._watch.close()
        return False

    def observation(self, number: int) -> NDArray[np.float32]:
        """[FEATURES] of one layer, and of the state so far."""
        layer, seen = self.layers[number], self._watch.layers[self.layers[number].name]
        loss = float(self._loss) / max(seen.batches, 1)
        self._first_loss = self._first_loss or loss
        importance = self._importance(layer)
        going = self._next(layer)
        size = sum(self.model.get_parameter(name).numel() for name in layer.weights)
        values = {
            "position": number / max(len(self.layers) - 1, 1),
            "progress": self.decision / (self._decisions + 1),
            "cost_left": self.bill.total / self._dense["cost"],
            "weights_left": self.left.parameters,
            "loss": loss / self._first_loss / 2 if self._first_loss else 0.0,
            "share_of_cost": self.macs.of(layer.name) / self.macs.total,
            "share_of_weights": size / self.weights.total,
            "channels_left": self._channels_left(layer),
            "density": 1 - self._zeros(number) / size if size else 1.0,
            "neurons_can_go": float(bool(going)),
            "activation": logarithm(seen.mean("activation")),
            "silent": seen.mean("silent"),
            "gradient": logarithm(seen.mean("gradient") / (seen.mean("weight") or 1.0)),
            "contribution": logarithm(float(importance.sum())),
            "contribution_of_next": float(importance[going].sum() / importance.sum()) if going else 0.0,
        }
        return np.clip(np.array([values[name] for name in FEATURES], np.float32), 0.0, 1.0)

    def apply(self, number: int, action: Action) -> None:
        """Choose what goes from a layer; it goes when the walk is settled."""
        layer = self.layers[number]
        if action is Action.NEURONS and (going := self._next(layer)):
            piece = Piece(layer.group, tuple(going))
            lost = self.structure.lost(piece)
            for bill in (self.macs, self.weights, self.bill):
                bill.remove(lost)
            self._pieces.append(piece)
        if action is Action.CONNECTIONS:
            size = sum(self.model.get_parameter(name).numel() for name in layer.weights)
            dense = sum(self.sizes[name] for name in layer.weights)
            more = min(round(self._k * dense), size - self._zeros(number) - math.ceil(self._k * size))
            self._thinned[number] = self._thinned.get(number, 0) + max(more, 0)

    def settle(self) -> tuple[Counter[str], int]:
        """Cut the network as was chosen in this walk; channels that went by layer, and connections.

        Raises ModelError where the cut network would compute something else; it is then as it was.
        """
        before = self.structure.widths_now()
        with self._contributions.cut_along():
            self.structure.remove(self._pieces)
        dropped = sum(self._thin(self.layers[number], count) for number, count in self._thinned.items())
        if self._thinned or self.masks.counts():
            self.masks.set_by_zeros(self._contributions.names)
        after = self.structure.widths_now()
        self._pieces, self._thinned, self._loss = [], {}, torch.zeros(())
        self._contributions.clear()
        self._taylor.removed()
        self._watch.clear()
        return Counter({name: before[name] - after[name] for name in after if after[name] < before[name]}), dropped

    def state_dict(self) -> dict[str, Any]:
        """What was removed, and what was seen since the last decision."""
        return {
            "steps": self.steps,
            "loss": (float(self._loss), self._first_loss),
            "structure": self.structure.state_dict(),
            "taylor": self._taylor.state_dict(),
            "watch": self._watch.state_dict(),
            "contributions": self._contributions.state_dict(),
            "masks": self.masks.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Cuts the dense network, so load this first, then the network's and the optimizer's."""
        self.structure.load_state_dict(state["structure"])
        self.steps, (loss, self._first_loss) = state["steps"], state["loss"]
        self._loss = torch.tensor(loss)
        self._taylor.load_state_dict(state["taylor"])
        self._watch.load_state_dict(state["watch"])
        self._contributions.load_state_dict(state["contributions"])
        self.masks.load_state_dict(state["masks"])
        lost = Counter({(cut.module, cut.axis): len(cut.removed) for cut in self.structure.log.cuts})
        self.macs, self.weights, self.bill = (
            Bill(one.prices, lost.copy()) for one in (self.macs, self.weights, self.bill)
        )
        self._watch.watching = self._is_near(self.steps + 1)

    def _found(self) -> Iterator[_Layer]:
        """Those from which anything can go, in the order of the network."""
        found, _ = find_connections(self.model, self.structure.trial)
        for name in self.structure.widths:
            own = tuple(one.name for one in found if one.name.rpartition(".")[0] == name and not one.whole)
            group = next((number for number, one in enumerate(self.structure.groups) if ("out", name) in one.sides), -1)
            if group >= 0 and self.structure.groups[group].whole:
                group = -1
            if own or group >= 0:
                yield _Layer(name, group, own)

    def _observe(self) -> None:
        """Before the optimizer's step: the gradients, in the batches in front of a decision."""
        if self._watch.watching:
            self._taylor.observe(self.structure, "channels")
            self._contributions.observe()
            self._watch.gradients()

    def _is_near(self, step: int) -> bool:
        return step <= self._decisions * self._every and (-step) % self._every < min(self._window, self._every)

    def _importance(self, layer: _Layer) -> Tensor:
        """sqrt(I) of the channels of the dense group, those that are left; of a layer that stays whole one zero."""
        if layer.group < 0 or not self.structure.left(layer.group):
            return torch.zeros(1, dtype=torch.float64)
        return self._taylor.channels(self.structure, layer.group).sqrt()

    def _next(self, layer: _Layer) -> list[int]:
        """The channels that would go from it next; none where it must stay as it is."""
        chosen = {one for piece in self._pieces if piece.group == layer.group for one in piece.channels}
        if layer.group < 0 or self.bill.total <= self.keep * self._dense["cost"]:
            return []
        left = [one for one in self.structure.left(layer.group) if one not in chosen]
        total = self.structure.groups[layer.group].channels
        count = max(math.ceil(self._k * total / self.align), 1) * self.align + len(left) % self.align
        if len(left) - count < self.align:
            return []
        return sorted(left, key=self._importance(layer).tolist().__getitem__)[:count]

    def _channels_left(self, layer: _Layer) -> float:
        if layer.group < 0:
            return 1.0
        chosen = sum(len(piece.channels) for piece in self._pieces if piece.group == layer.group)
        return (len(self.structure.left(layer.group)) - chosen) / self.structure.groups[layer.group].channels

    def _zeros(self, number: int) -> int:
        """Connections of a layer that are zero, or chosen to be."""
        counts = self.masks.counts()
        weights = self.layers[number].weights
        held = sum(self.model.get_parameter(name).numel() - counts[name] for name in weights if name in counts)
        return held + self._thinned.get(number, 0)

    def _thin(self, layer: _Layer, count: int) -> int:
        """Set the connections of a layer to zero that contribute least; how many."""
        found = [self.model.get_parameter(name) for name in layer.weights]
        nonzero = sum(int((one != 0).sum()) for one in found)
        stay = math.ceil(self._k * sum(one.numel() for one in found))  # neurons may have gone with some of them
        return self._contributions.drop(layer.weights, min(count, nonzero - stay))
