"""Remove the channels with the smallest weights, over all layers at once.

A channel's importance is the mean over the layers it runs through of the sum of its squared weights there, divided by
the mean over its group, so that groups can be compared: the group L2 norm of Fang et al., "DepGraph: Towards Any
Structural Pruning", CVPR 2023, section 3.3.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.errors import ConfigError, ModelError
from edgeprune.prune.groups import ChannelGroup, Example, Trial, find_groups, merged
from edgeprune.prune.pruner import LayerWidth, PruneReport
from edgeprune.prune.surgery import Axis, Cut, SurgeryLog, replay, weight_dim

COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)

Removed = Mapping[tuple[str, Axis], int]  # channels that each side of a layer is to lose


@dataclass(frozen=True)
class _Block:
    """Channels of one group that go together, so that what stays is a multiple of the alignment."""

    importance: float
    group: ChannelGroup
    channels: tuple[int, ...]

    @property
    def cuts(self) -> tuple[Cut, ...]:
        return self.group.cuts(self.channels)


class MagnitudePruner:
    """Global magnitude pruning to a fraction of the multiply-accumulates, in one step."""

    def __init__(self, model: nn.Module, example_inputs: Example, *, keep: float, align: int = 1) -> None:
        """`example_inputs` is one sample, [1, C, H, W] or inputs by name; the model is not cut before `step`.

        A layer that is cut keeps a multiple of `align` channels; one that has no more than that stays whole.
        Raises ConfigError where the model has recurrent layers or attention, which cannot be cut yet.
        """
        self.model = model
        self.keep = keep
        self.align = align
        self.log = SurgeryLog()
        self._trial = Trial.of(model, example_inputs)
        self._groups = find_groups(self._trial)
        self._positions = _positions(self._trial)
        self._widths = {name: _weight(model, name).shape[0] for name in self._positions}
        self._macs_before = self._macs({})

    @property
    def report(self) -> PruneReport:
        """Widths of all convolutions and dense layers, and why some were left."""
        layers = tuple(self._layer(name) for name in self._widths)
        return PruneReport("magnitude", self.keep, self.align, self._macs_before, self._macs({}), layers)

    def step(self) -> None:
        """Remove blocks of channels, the least important first, until at most `keep` of the MACs are left.

        A second call does nothing. Raises ConfigError where the alignment leaves more than `keep`, or ModelError where
        the cut network would compute something else; the model is then untouched.
        """
        if self.log.cuts:
            return
        blocks: list[_Block] = []
        removed: Counter[tuple[str, Axis]] = Counter()
        least = sorted(self._blocks(), key=lambda block: block.importance)
        for block in least:
            if self._macs(removed) <= self.keep * self._macs_before:
                break
            blocks.append(block)
            removed.update({(cut.module, cut.axis): len(cut.removed) for cut in block.cuts})
        reached = self._macs(removed) / self._macs_before
        if reached > self.keep:
            raise ConfigError(
                f"keep {self.keep:g} cannot be reached in multiples of {self.align} channels: "
                f"{math.ceil(reached * 1000) / 1000:g} of the multiply-accumulates can: keep more"
            )
        log = merged(cut for block in blocks for cut in block.cuts)
        if fault := self._trial.fault(log):
            raise ModelError(f"this network cannot be pruned ({fault}): use --pruner none")
        replay(self.model, log)
        self.log = log

    def _blocks(self) -> Iterable[_Block]:
        for group in self._groups:
            if group.whole:
                continue
            scores = importance(self.model, group)
            order = torch.argsort(scores, stable=True).tolist()
            first = group.channels % self.align or self.align
            start, stop = 0, first
            while group.channels - stop >= self.align:
                channels = tuple(order[start:stop])
                yield _Block(float(scores[list(channels)].mean()), group, channels)
                start, stop = stop, stop + self.align

    def _macs(self, removed: Removed) -> int:
        return sum(
            positions * _left(_weight(self.model, name), removed.get((name, "out"), 0), removed.get((name, "in"), 0))
            for name, positions in self._positions.items()
        )

    def _layer(self, name: str) -> LayerWidth:
        before, after = self._widths[name], _weight(self.model, name).shape[0]
        return LayerWidth(name, before, after, self._why(name) if after == before else "")

    def _why(self, name: str) -> str:
        group = next((group for group in self._groups if ("out", name) in group.sides), None)
        if group is None:
            return "its channels lead nowhere that could be followed"
        if group.whole:
            return group.whole
        if group.channels <= self.align:
            return f"{group.channels} channels are no more than the alignment of {self.align}"
        return "its channels rank above those removed" if self.log.cuts else "not pruned yet"


def importance(model: nn.Module, group: ChannelGroup) -> Tensor:
    """The group L2 norm of each channel, [channels]; 1 on average.

    A depthwise filter counts as any layer does; Torch-Pruning 1.6 leaves it out.
    """
    scores = torch.zeros(group.channels, dtype=torch.float64)
    weighted = [member for member in group.members if _weight(model, member.module) is not None]
    for member in weighted:
        squares = _weight(model, member.module).detach().cpu().double().pow(2)
        dim = weight_dim(model.get_submodule(member.module), member.axis)
        squares = squares.movedim(dim, 0).reshape(squares.shape[dim], -1).sum(1)
        for channel, indices in enumerate(member.indices):
            scores[channel] += squares[list(indices)].sum()
    scores /= len(weighted)
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


def _left(weight: Tensor, out_removed: int, in_removed: int) -> int:
    """Elements of `weight` [out, in, ...] that stay."""
    outputs, inputs = weight.shape[:2]
    return weight.numel() // (outputs * inputs) * (outputs - out_removed) * (inputs - in_removed)


def _positions(trial: Trial) -> dict[str, int]:
    """How often each convolution and dense layer applies its weights to one sample."""
    counts: Counter[str] = Counter()
    hooks = []
    for name, layer in trial.model.named_modules():
        if isinstance(layer, COUNTED):

            def count(layer: nn.Module, inputs: Any, output: Tensor, name: str = name) -> None:
                counts[name] += output.numel() // _weight(trial.model, name).shape[0]

            hooks.append(layer.register_forward_hook(count))
    trial.outputs(trial.model)
    for hook in hooks:
        hook.remove()
    return dict(counts)


def _weight(model: nn.Module, name: str) -> Tensor:
    weight: Tensor = model.get_submodule(name).weight  # type: ignore[assignment]
    return weight
