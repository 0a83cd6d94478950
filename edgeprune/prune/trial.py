"""A copy of a network that cuts are tried on before the network itself is cut.

Whatever follows channels through a network may be wrong about an operation that it does not know. So nothing that it
finds is trusted: in a copy with random weights, removing must compute what setting to zero computes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from edgeprune.errors import EdgePruneError
from edgeprune.models.calling import INPUT, run
from edgeprune.prune.surgery import SurgeryLog, mask, replay
from edgeprune.prune.ways import Way, find_ways

TOLERANCE = 1e-3  # of the largest output; float32 rounding stays below 1e-5, a wrong channel far above
RAISED = (EdgePruneError, RuntimeError, ValueError, IndexError, TypeError, AttributeError, KeyError, AssertionError)
"""By a network whose parts no longer fit together."""

Example = ArrayLike | Mapping[str, ArrayLike]
"""One sample [1, ...]: the one input of a network, or its inputs by name; tensors or arrays."""


@dataclass(frozen=True)
class Trial:
    """A network's architecture with random weights, and an example."""

    model: nn.Module
    example: dict[str, Tensor]
    """The network's inputs for one sample, [1, ...] each: random numbers, and integers as they were given."""

    @classmethod
    def of(cls, model: nn.Module, example: Example) -> Trial:
        """On the CPU, in evaluation mode; no channel is dead, and no two are alike."""
        trial = copy.deepcopy(model, _computed(model)).cpu().eval().requires_grad_(True)
        generator = torch.Generator().manual_seed(0)
        for parameter in trial.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=math.sqrt(2 / parameter[0].numel()), generator=generator)
            else:
                nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
        for layer in trial.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.reset_running_stats()
        inputs = example if isinstance(example, Mapping) else {INPUT: example}
        return cls(trial, {name: _random(torch.as_tensor(one), generator) for name, one in inputs.items()})

    @cached_property
    def ways(self) -> tuple[Way, ...]:
        """That the network takes on this example and on others: what is removed must fit all of them."""
        return find_ways(copy.deepcopy(self.model), self.example)

    def outputs(self, model: nn.Module) -> dict[str, Tensor]:
        """What a network answers to the example."""
        with torch.no_grad():
            return run(model, self.example)

    def fault(self, log: SurgeryLog, ends: Sequence[str] = ()) -> str:
        """Empty where removing computes what setting to zero computes, whatever the inputs, else how it does not.

        Of removed blocks the parameters `ends` are set to zero; without those nothing is said but that it runs.
        """
        first, *others = self.ways
        if fault := self._fault(first, log, ends):
            return fault
        for way in others:
            if self._fault(way, log, ends):
                where = way.module or type(self.model).__name__
                return f"{where} does not run the same on every input: cut, it would be wrong on others"
        return ""

    def _fault(self, way: Way, log: SurgeryLog, ends: Sequence[str]) -> str:
        cut, masked = copy.deepcopy(self.model), copy.deepcopy(self.model)
        try:
            replay(cut, log)
            mask(masked, replace(log, blocks=()) if ends else log)
            silence(masked, ends)
            expected, found = way.outputs(masked), way.outputs(cut)
        except RAISED as error:
            return f"cutting it fails: {' '.join(str(error).split())[:120] or type(error).__name__}"
        faults = (_difference(expected[name], found[name]) for name in expected)
        return next(filter(None, faults), "")


def silence(model: nn.Module, parameters: Iterable[str]) -> None:
    """Set parameters to zero, in place."""
    for name in parameters:
        model.get_parameter(name).detach().zero_()


def _computed(model: nn.Module) -> dict[int, Any]:
    """Copies of what modules keep that was computed with gradients: only parameters can be copied as they are."""
    kept = (one for module in model.modules() for one in vars(module).values() if isinstance(one, Tensor))
    return {id(one): one.detach().clone() for one in kept}


def _random(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Integers stay: they may be numbers of tokens."""
    if not tensor.is_floating_point():
        return tensor.cpu()
    return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)


def _difference(expected: Tensor, found: Tensor) -> str:
    if expected.shape != found.shape:
        return f"cutting it changes the output's shape to {list(found.shape)}"
    scale, off = float(expected.abs().max()), float((expected - found).abs().max())
    return "" if off <= TOLERANCE * scale else f"a cut network is off by {off / scale:.0%} of the largest output"
