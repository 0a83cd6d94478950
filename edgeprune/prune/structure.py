"""What of a network can be removed, what was, and the removing: what every pruner works on."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.errors import ModelError
from edgeprune.prune.blocks import Block, find_blocks
from edgeprune.prune.cost import SideName
from edgeprune.prune.groups import LEADS_OUT, ChannelGroup, Groups, Member, find_groups
from edgeprune.prune.sides import CONVOLUTIONS, Axis, Place, side
from edgeprune.prune.surgery import Cut, SurgeryLog, merged, replay
from edgeprune.prune.trial import Example, Trial

NAMED = 4
"""Layers in a line; the rest is counted."""


@dataclass(frozen=True)
class Piece:
    """What is removed at once: channels of a group, or a block."""

    group: int = -1
    """Its number in `Structure.groups`."""
    channels: tuple[int, ...] = ()
    block: str = ""


class Structure:
    """A network under surgery. Groups, channels and blocks keep the numbers that they had in the dense network."""

    def __init__(self, model: nn.Module, example_inputs: Example, optimizer: Optimizer | None = None) -> None:
        """`example_inputs` is one sample, [1, C, H, W] or inputs by name. Raises ModelError where the network fails."""
        self.model = model
        self.optimizer = optimizer
        """That trains the model: told of every parameter that is cut."""
        self.trial = Trial.of(model, example_inputs)
        self.widths = {name: channels_of(layer) for name, layer in model.named_modules() if channels_of(layer)}
        """Output channels of every convolution, dense and recurrent layer of the dense network."""
        self._removed = defaultdict[SideName, set[int]](set)
        self._gone = defaultdict[int, set[int]](set)
        self._blocks: set[str] = set()
        self._places: dict[tuple[int, Member], tuple[Tensor, Tensor]] = {}

    @cached_property
    def _found(self) -> Groups:
        return find_groups(self.trial)

    @property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """Of channels that can only be removed together."""
        return self._found.found

    @property
    def unfollowed(self) -> tuple[str, ...]:
        """A line for each part whose channels cannot be followed."""
        return self._found.unfollowed

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """That can be removed as a whole."""
        return find_blocks(self.trial)

    def group_of(self, name: str) -> tuple[int | None, str]:
        """The group of a layer's output channels, and why it stays whole if it must."""
        for number, group in enumerate(self.groups):
            if ("out", name) in group.sides:
                return number, group.whole
        return None, "its channels lead nowhere that could be followed"

    @property
    def whole(self) -> tuple[str, ...]:
        """A line for each reason for which layers keep all their channels, other than that they are the output."""
        found = defaultdict[str, list[str]](list)
        for name in self.widths:
            found[self.group_of(name)[1]].append(name)
        return tuple(f"{_some(names)}: {why}" for why, names in found.items() if why and why != LEADS_OUT)

    @property
    def log(self) -> SurgeryLog:
        """All that was removed."""
        cuts = (Cut(module, axis, tuple(removed)) for (module, axis), removed in self._removed.items())
        return merged(cuts, self._blocks)

    def widths_now(self) -> dict[str, int]:
        """Output channels that each layer has left; 0 of one in a removed block."""
        lost = {cut.module: len(cut.removed) for cut in self.log.cuts if cut.axis == "out"}
        found = dict[str, int]()
        for name, before in self.widths.items():
            layer = self.trial.model.get_submodule(name)
            multiple = getattr(layer, "groups", 1) if before != getattr(layer, "groups", 1) else 1
            found[name] = 0 if self._is_removed(name) else before - multiple * lost.get(name, 0)
        return found

    @property
    def is_finite(self) -> bool:
        """Whether every weight is a number. Where one is not, training diverged, and nothing says what matters."""
        return all(bool(one.isfinite().all()) for one in self.model.parameters())

    def left(self, group: int) -> list[int]:
        """The channels of a group that are still there; none where all its layers are in removed blocks."""
        if not any(True for _ in self.members(group)):
            return []
        return [one for one in range(self.groups[group].channels) if one not in self._gone[group]]

    def is_left(self, block: Block) -> bool:
        """Whether it is still there."""
        return block.name not in self._blocks

    def members(self, group: int) -> Iterator[Member]:
        """Those of a group that are still there."""
        return (member for member in self.groups[group].members if not self._is_removed(member.module))

    def layer(self, member: Member) -> nn.Module:
        """The layer that a member is a side of, as it is now."""
        return self.model.get_submodule(member.module)

    def parameter(self, name: str) -> nn.Parameter:
        """One that a block ends in, by its name in the dense network."""
        module, _, own = name.rpartition(".")
        if found := re.search(r"_l(\d+)", own):
            now = self._renumbered(f"{module}:{found[1]}").rpartition(":")[2]
            own = f"{own[: found.start(1)]}{now}{own[found.end(1) :]}"
        return self.model.get_parameter(f"{module}.{own}".lstrip("."))

    def lost(self, piece: Piece) -> Counter[SideName]:
        """How many channels each side of a layer would lose."""
        if piece.block:
            return Counter()
        cuts = self.groups[piece.group].cuts(piece.channels)
        return Counter({(cut.module, cut.axis): len(cut.removed) for cut in cuts if not self._is_removed(cut.module)})

    def sums(self, group: int, of: Callable[[Place, nn.Parameter], Tensor | None], axis: Axis | None = None) -> Tensor:
        """[channels of the dense group], float64: `of(place, parameter)`, shaped like the parameter, added up.

        Over all parameters of all members, or those of one axis. Channels that were removed have 0.
        """
        found = torch.zeros(self.groups[group].channels, dtype=torch.float64)
        for member in self.members(group):
            if axis is None or member.axis == axis:
                found += self.member_sums(group, member, of)
        return found

    def member_sums(self, group: int, member: Member, of: Callable[[Place, nn.Parameter], Tensor | None]) -> Tensor:
        """The same over one member."""
        layer = self.layer(member)
        found = side(layer, member.axis)
        total: Tensor | None = None
        for place in found.places:
            tensor = getattr(layer, place.tensor)
            quantity = of(place, tensor) if isinstance(tensor, nn.Parameter) else None
            if quantity is not None:
                rows = quantity.detach().movedim(place.dim, 0).reshape(place.copies, found.width, -1)
                added = rows.sum((0, 2), dtype=torch.float64)
                total = added if total is None else total + added
        summed = torch.zeros(self.groups[group].channels, dtype=torch.float64)
        if total is not None:
            indices, channels = self._place(group, member)
            summed.index_add_(0, channels, total.cpu()[indices])
        return summed

    def remove(self, pieces: Iterable[Piece]) -> None:
        """Cut the network, and the optimizer's state with it.

        Raises ModelError where a cut network would compute something else; it is then as it was.
        """
        cuts, blocks = list[Cut](), set(self._blocks)
        chosen = list(pieces)
        for piece in chosen:
            if piece.block:
                blocks.add(piece.block)
            else:
                cuts += self.groups[piece.group].cuts(piece.channels)
        after = merged([*cuts, *self.log.cuts], blocks)
        if after == self.log:
            return
        if fault := self.trial.fault(after):
            raise ModelError(f"this network cannot be pruned ({fault}): use --pruner none")
        replay(self.model, self._now(cuts, blocks - self._blocks), self.optimizer)
        for piece in chosen:
            self._gone[piece.group].update(piece.channels)
        for cut in after.cuts:
            self._removed[cut.module, cut.axis] |= set(cut.removed)
        self._blocks = blocks
        self._places.clear()

    def state_dict(self) -> dict[str, Any]:
        """What was removed, as plain lists."""
        gone = {group: sorted(channels) for group, channels in self._gone.items() if channels and group >= 0}
        return {"channels": gone, "blocks": sorted(self._blocks), "widths": dict(self.widths)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remove what had been removed. Raises ModelError where that was another network's, or this is not dense."""
        if self.log:
            raise ModelError("this network has been cut already: load the pruner's state into the dense network")
        pieces = [Piece(group, tuple(channels)) for group, channels in state["channels"].items()]
        if state.get("widths", self.widths) != self.widths or any(
            piece.group >= len(self.groups) or max(piece.channels) >= self.groups[piece.group].channels
            for piece in pieces
        ):
            raise ModelError("the pruner's state is another network's: load it into the network that it was made for")
        self.remove([*pieces, *(Piece(block=block) for block in state["blocks"])])

    def _now(self, cuts: Iterable[Cut], blocks: Iterable[str]) -> SurgeryLog:
        """The same, in the numbers that channels and layers have now."""
        numbered = (self._renumbered(block) for block in blocks)
        wanted = (cut for cut in merged(cuts, {*blocks, *self._blocks}).cuts)
        return merged((self._counted(cut) for cut in wanted), numbered)

    def _counted(self, cut: Cut) -> Cut:
        before = self._removed[cut.module, cut.axis]
        removed = sorted(set(cut.removed) - before)
        gone = torch.tensor(sorted(before), dtype=torch.int64)
        index = torch.tensor(removed, dtype=torch.int64)
        return Cut(cut.module, cut.axis, tuple((index - torch.searchsorted(gone, index)).tolist()))

    def _renumbered(self, block: str) -> str:
        module, _, number = block.partition(":")
        before = [int(one.partition(":")[2]) for one in self._blocks if number and one.startswith(f"{module}:")]
        return f"{module}:{int(number) - sum(one < int(number) for one in before)}" if number else block

    def _is_removed(self, module: str) -> bool:
        return any(f"{module}.".startswith(f"{block}.") for block in self._blocks)

    def _place(self, group: int, member: Member) -> tuple[Tensor, Tensor]:
        """Indices that the channels of a group have now on a member's side, and for each its channel."""
        if (group, member) not in self._places:
            gone = torch.tensor(sorted(self._removed[member.module, member.axis]), dtype=torch.int64)
            pairs = [(index, one) for one in self.left(group) for index in member.indices[one]]
            indices, channels = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
            self._places[group, member] = indices - torch.searchsorted(gone, indices), channels
        return self._places[group, member]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= NAMED else f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


def channels_of(layer: nn.Module) -> int:
    """Outputs of a convolution, dense or recurrent layer; 0 of any other."""
    if isinstance(layer, CONVOLUTIONS):
        return layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.hidden_size if isinstance(layer, nn.RNNBase) else 0
