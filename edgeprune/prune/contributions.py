"""What single connections contribute to the loss, to first order.

Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8: of a weight

    I_s = E[(g_s w_s)^2]

over batches. sqrt(I) is in units of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Contributions:
    """Of the weights of some parameters, over the batches since it was cleared."""

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._model = model
        self._squares: dict[str, Tensor] = {}
        self._seen = 0

    def observe(self) -> None:
        """Add one batch's, before its gradients change a weight."""
        self._seen += 1
        for name in self.names:
            parameter = self._model.get_parameter(name)
            if parameter.grad is None:
                continue
            change = parameter.grad * parameter.detach()
            if name in self._squares:
                self._squares[name].addcmul_(change, change)
            else:
                self._squares[name] = change.square()

    def of(self, name: str) -> Tensor | None:
        """sqrt(I) of each weight of a parameter; None where no gradient was seen."""
        return (self._squares[name] / self._seen).sqrt() if name in self._squares else None

    def drop(self, names: Iterable[str], count: int, allowed: float = math.inf) -> int:
        """Set the `count` weights of these parameters to zero that contribute least, of those that are not yet.

        Fewer, where their contributions would add up to more than `allowed`. Returns how many.
        """
        found = {name: self._model.get_parameter(name) for name in names if name in self._squares}
        if not found:
            return 0
        change = (torch.cat([self._squares[name].flatten() for name in found]) / self._seen).sqrt()
        zero = torch.cat([one.detach().flatten() == 0 for one in found.values()])
        order = torch.where(zero, torch.inf, change).argsort()[: max(min(count, int((~zero).sum())), 0)]
        order = order[change[order].double().cumsum(0) <= allowed]
        zero[order] = True
        sizes = [one.numel() for one in found.values()]
        for one, off in zip(found.values(), torch.split(zero, sizes), strict=True):
            one.detach().masked_fill_(off.view(one.shape), 0)
        return len(order)

    def clear(self) -> None:
        """What was seen counts no more."""
        self._squares, self._seen = {}, 0

    @contextmanager
    def cut_along(self) -> Iterator[None]:
        """Parameters may be cut inside: surgery cuts gradients as it cuts weights, and these go through it as such."""
        for name, squares in self._squares.items():
            self._model.get_parameter(name).grad = squares
        yield
        for name in self._squares:
            parameter = self._model.get_parameter(name)
            if parameter.grad is not None:
                self._squares[name], parameter.grad = parameter.grad, None

    def state_dict(self) -> dict[str, Any]:
        """Sums so far."""
        return {"squares": dict(self._squares), "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on adding."""
        places = {name: self._model.get_parameter(name).device for name in state["squares"]}
        self._squares = {name: one.to(places[name]) for name, one in state["squares"].items()}
        self._seen = state["seen"]
