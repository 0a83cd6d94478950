"""Which weights of a network can be dropped one by one, and what they compute."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from edgeprune.prune.cost import macs
from edgeprune.prune.sides import CONVOLUTIONS
from edgeprune.prune.trial import Trial


@dataclass(frozen=True)
class Connections:
    """The weights of one parameter of a convolution, dense or recurrent layer."""

    name: str
    """Of the parameter."""
    shape: tuple[int, ...]
    macs: float
    """That all of them do for one sample."""
    whole: str = ""
    """Why none is dropped; empty where some may be."""


def find_connections(model: nn.Module, trial: Trial) -> tuple[tuple[Connections, ...], float]:
    """All of those, in the order of the network, and the multiply-accumulates of everything else (attention)."""
    prices = {price.module: price.of([0] * (len(price.sides) + 1)) for price in macs(trial)}
    owners = Counter(id(one) for module in model.modules() for one in module.parameters(recurse=False))
    found, seen = list[Connections](), set[int]()
    sizes = defaultdict[str, int](int)
    for module, name, _ in _weights(model):
        sizes[module] += model.get_parameter(name).numel()
    for module, name, layer in _weights(model):
        parameter = model.get_parameter(name)
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        whole = ""
        if owners[id(parameter)] > 1:
            whole = "it is shared with another layer"
        elif getattr(layer, "groups", 1) > 1 and parameter.shape[1] == 1:
            whole = "it is depthwise: a channel has one filter, and that is small"
        share = parameter.numel() / sizes[module]
        found.append(Connections(name, tuple(parameter.shape), prices.get(module, 0.0) * share, whole))
    return tuple(found), sum(prices.values()) - sum(one.macs for one in found)


def _weights(model: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Module, parameter, layer."""
    for module, layer in model.named_modules():
        if isinstance(layer, (*CONVOLUTIONS, nn.Linear, nn.RNNBase)):
            for own, _ in layer.named_parameters(recurse=False):
                if own.startswith("weight"):
                    yield module, f"{module}.{own}".lstrip("."), layer
