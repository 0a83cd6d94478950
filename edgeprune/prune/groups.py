"""Which channels of a network can only be removed together, and which not at all.

Torch-Pruning (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023) follows channels through a network.
An operation that it does not know it takes for elementwise: a shortcut that pads channels then gives valid shapes and
wrong numbers. So no group is trusted. Each is tried: removing half of its channels must compute what setting them to
zero computes, in a copy with random weights; where it does not, the group stays whole.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch_pruning
from numpy.typing import ArrayLike
from torch import Tensor, nn

from edgeprune.errors import ConfigError, EdgePruneError, ModelError
from edgeprune.models.calling import INPUT, run
from edgeprune.prune.surgery import Axis, Cut, SurgeryLog, mask, replay

TOLERANCE = 1e-3  # of the largest output; float32 rounding stays below 1e-5, a wrong channel far above
UNCUT = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
"""Layers that surgery cannot narrow yet."""

Example = ArrayLike | Mapping[str, ArrayLike]
"""One sample [1, ...]: the one input of a network, or its inputs by name; tensors or arrays."""


@dataclass(frozen=True)
class Member:
    """One side of one layer in a group."""

    module: str
    axis: Axis
    indices: tuple[tuple[int, ...], ...]
    """Per channel of the group the channels here: one, or several behind a flatten."""


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that run through several layers."""

    channels: int
    members: tuple[Member, ...]
    whole: str = ""
    """Why none may be removed; empty where they may."""

    @property
    def sides(self) -> frozenset[tuple[Axis, str]]:
        """Which side of which layers it is."""
        return frozenset((member.axis, member.module) for member in self.members)

    def cuts(self, removed: Iterable[int]) -> tuple[Cut, ...]:
        """What removing those channels means for each layer."""
        chosen = sorted(removed)
        return tuple(
            Cut(member.module, member.axis, tuple(sorted(i for channel in chosen for i in member.indices[channel])))
            for member in self.members
        )


@dataclass(frozen=True)
class Trial:
    """A copy of a network, with random weights, that cuts are tried on before the network itself is cut."""

    model: nn.Module
    example: dict[str, Tensor]
    """The network's inputs for one sample, [1, ...] each: random numbers, and integers as they were given."""

    @classmethod
    def of(cls, model: nn.Module, example: Example) -> Trial:
        """On the CPU, in evaluation mode; no channel is dead, and no two are alike.

        Raises ConfigError where the network has layers that no pruner cuts yet.
        """
        refuse_uncut(model)
        trial = copy.deepcopy(model).cpu().eval().requires_grad_(True)
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

    def outputs(self, model: nn.Module) -> dict[str, Tensor]:
        """What a network answers to the example."""
        with torch.no_grad():
            return run(model, self.example)

    def fault(self, log: SurgeryLog) -> str:
        """Empty where removing channels computes what setting them to zero computes, else how it does not."""
        cut, masked = copy.deepcopy(self.model), copy.deepcopy(self.model)
        try:
            replay(cut, log)
            mask(masked, log)
            expected, found = self.outputs(masked), self.outputs(cut)
        except (EdgePruneError, RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            return f"cutting it fails: {' '.join(str(error).split())[:120]}"
        faults = (_difference(expected[name], found[name]) for name in expected)
        return next(filter(None, faults), "")


def refuse_uncut(model: nn.Module) -> None:
    """Refuse a network with recurrent layers or attention. Raises ConfigError naming the first."""
    for name, layer in model.named_modules():
        if isinstance(layer, UNCUT) or type(layer).__module__.startswith("transformers."):
            raise ConfigError(
                f"{name or type(model).__name__}: {type(layer).__name__} cannot be pruned yet, only convolutions and"
                " dense layers: use --pruner none"
            )


def find_groups(trial: Trial) -> tuple[ChannelGroup, ...]:
    """All groups of the model's convolutions and dense layers, each tried.

    Raises ModelError where Torch-Pruning cannot follow the network.
    """
    try:
        graph = torch_pruning.DependencyGraph().build_dependency(
            trial.model,
            example_inputs=trial.example,
            forward_fn=lambda model, example: list(run(model, example).values()),
            verbose=False,
        )
        found = list(graph.get_all_groups())
    except EdgePruneError:
        raise
    except Exception as error:  # it follows what it finds in any network, and may meet anything
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"{type(trial.model).__name__}: its channels cannot be followed ({type(error).__name__}: {reason}):"
            " use --pruner none"
        ) from error
    return tuple(_group(trial, graph, one) for one in found)


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


def merged(cuts: Iterable[Cut]) -> SurgeryLog:
    """One cut per side of each layer: several groups may meet in one, behind a concatenation."""
    removed: dict[tuple[str, Axis], set[int]] = defaultdict(set)
    for cut in cuts:
        removed[cut.module, cut.axis] |= set(cut.removed)
    return SurgeryLog(tuple(Cut(module, axis, tuple(sorted(found))) for (module, axis), found in removed.items()))


def _group(trial: Trial, graph: Any, found: Any) -> ChannelGroup:
    names = {layer: name for name, layer in trial.model.named_modules()}
    channels = len(found[0].idxs)
    members: list[Member] = []
    whole = ""
    for item in found:
        node, layer = item.dep.target, item.dep.target.module
        outward = graph.is_out_channel_pruning_fn(item.dep.handler)
        if outward and not node.outputs:
            whole = "it is the output"
        if isinstance(layer, nn.Parameter):
            whole = "it runs through a parameter that belongs to no layer"
        elif layer in names and layer.state_dict():  # else an operation without weights
            indices: list[list[int]] = [[] for _ in range(channels)]
            for index, root in zip(item.idxs, item.root_idxs, strict=True):
                indices[root].append(index)
            members.append(Member(names[layer], "out" if outward else "in", tuple(map(tuple, indices))))
    group = ChannelGroup(channels, tuple(members), whole)
    if whole or channels == 1:
        return replace(group, whole=whole or "it has one channel")
    half = torch.randperm(channels, generator=torch.Generator().manual_seed(0))[: channels // 2].tolist()
    fault = trial.fault(merged(group.cuts(half)))
    if fault and any("ConstantPad" in item.dep.target.grad_fn.name() for item in found):
        fault = "a shortcut pads its channels with zeros: removing some would shift the rest"
    return replace(group, whole=fault)
