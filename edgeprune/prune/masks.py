"""Which weights of a network are active, and holding to it: all others are zero, and so are their moments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.errors import ModelError


class Masks:
    """By name of a parameter, a tensor of its shape that says which of its weights are active."""

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        """None is held at first; what is set is, before and after every step of the optimizer."""
        self._model, self._optimizer = model, optimizer
        self._off, self._counts = dict[str, Tensor](), dict[str, int]()
        self._hooks = (
            optimizer.register_step_pre_hook(lambda *_: self._hold_gradients()),
            optimizer.register_step_post_hook(lambda *_: self._hold()),
        )

    def active(self, name: str) -> Tensor:
        """Of one parameter, booleans on its device."""
        return ~self._there(name, self._model.get_parameter(name))

    def counts(self) -> dict[str, int]:
        """Active weights of each parameter that is held."""
        return dict(self._counts)

    def set(self, active: Mapping[str, Tensor]) -> None:
        """Hold to these from now on, and forget what the optimizer kept of the others."""
        self._off = {name: ~one for name, one in active.items()}
        self._counts = {name: int(one.sum()) for name, one in active.items()}
        self._hold()
        self._forget()

    def set_by_zeros(self, names: Iterable[str]) -> None:
        """Hold the zeros that these parameters have."""
        self.set({name: self._model.get_parameter(name).detach() != 0 for name in names})

    def state_dict(self) -> dict[str, Tensor]:
        """Which are active, by parameter."""
        return {name: ~off.cpu() for name, off in self._off.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Hold to those. Raises ModelError where they are another network's."""
        shapes = {name: parameter.shape for name, parameter in self._model.named_parameters()}
        if any(shapes.get(name) != one.shape for name, one in state.items()):
            raise ModelError("the masks are another network's: load them into the network that they were made for")
        self.set(state)

    def _hold(self) -> None:
        """Set every weight that is not active to zero, in place."""
        for name in self._off:
            parameter = self._model.get_parameter(name)
            parameter.detach().masked_fill_(self._there(name, parameter), 0)

    def _hold_gradients(self) -> None:
        """The same of their gradients, so that no moment begins to move."""
        for name in self._off:
            parameter = self._model.get_parameter(name)
            if parameter.grad is not None:
                parameter.grad.masked_fill_(self._there(name, parameter), 0)

    def _forget(self) -> None:
        """The same of what the optimizer keeps for each weight."""
        for name in self._off:
            parameter = self._model.get_parameter(name)
            for kept in self._optimizer.state.get(parameter, {}).values():
                if isinstance(kept, Tensor) and kept.shape == parameter.shape:
                    kept.masked_fill_(self._there(name, parameter), 0)

    def _there(self, name: str, parameter: nn.Parameter) -> Tensor:
        """On the parameter's device: a network may be moved between two steps."""
        if self._off[name].device != parameter.device:
            self._off[name] = self._off[name].to(parameter.device)
        return self._off[name]


def lowest(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """Which `count` of the elements that `among` says have the lowest scores; booleans of that shape."""
    rest = torch.where(among, scores, torch.inf).flatten()
    chosen = torch.zeros_like(rest, dtype=torch.bool)
    chosen[rest.topk(count, largest=False, sorted=False).indices] = True
    return chosen.view(scores.shape)
