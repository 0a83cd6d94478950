"""Keep what an optimizer knows of a parameter when the parameter is cut: its moments are cut the same way."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.optim import Optimizer


def carry(
    optimizer: Optimizer | None, old: nn.Parameter, new: nn.Parameter, cut: Callable[[Tensor], Tensor] | None = None
) -> None:
    """Put `new` where `old` was; what is kept per weight goes through `cut`, which made one of the other."""
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group["params"] = [new if one is old else one for one in group["params"]]
    if old in optimizer.state:
        state = optimizer.state.pop(old)
        of_weights = {name for name, one in state.items() if isinstance(one, Tensor) and one.shape == old.shape}
        if cut is not None and old.ndim:
            state = {name: cut(one) if name in of_weights else one for name, one in state.items()}
        optimizer.state[new] = state


def drop(optimizer: Optimizer | None, gone: nn.Parameter) -> None:
    """Forget a parameter that is no longer part of the network."""
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group["params"] = [one for one in group["params"] if one is not gone]
    optimizer.state.pop(gone, None)
