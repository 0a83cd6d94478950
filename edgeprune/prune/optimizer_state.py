"""Keep what an optimizer knows of a parameter when the parameter is cut: its moments are cut the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from edgeprune.errors import ConfigError


def check(optimizer: Optimizer, model: nn.Module) -> None:
    """Raise ConfigError where it does not train the model, or could not go on with one that was cut."""
    if isinstance(optimizer, LBFGS):
        raise ConfigError("the optimizer LBFGS keeps the parameters that were cut: use Adam, AdamW or SGD")
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    if not any(id(one) in held for one in model.parameters()):
        name = type(optimizer).__name__
        raise ConfigError(
            f"the optimizer {name} holds no parameter of this {type(model).__name__}: make it of model.parameters()"
        )


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
        if cut is not None and old.ndim:
            state = _cut(state, old, cut)
        if state:
            optimizer.state[new] = state


def _cut(state: dict[str, Any], old: nn.Parameter, cut: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """What is kept per weight, per row or per column; nothing, so that it begins anew, where it is kept otherwise."""
    after = dict(state)
    for name, one in state.items():
        if not isinstance(one, Tensor) or not one.ndim:
            continue
        if one.ndim != old.ndim or any(size not in (1, full) for size, full in zip(one.shape, old.shape, strict=True)):
            return {}
        if one.shape == old.shape:
            after[name] = cut(one)
        else:
            first = tuple(slice(1) if size == 1 else slice(None) for size in one.shape)
            after[name] = cut(one.expand(old.shape))[first].clone()
    return after


def drop(optimizer: Optimizer | None, gone: nn.Parameter) -> None:
    """Forget a parameter that is no longer part of the network."""
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group["params"] = [one for one in group["params"] if one is not gone]
    optimizer.state.pop(gone, None)
