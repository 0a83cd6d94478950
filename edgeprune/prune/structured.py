"""The pruner of the baselines: remove what a criterion ranks lowest until the network costs what is asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, get_args

from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.errors import ConfigError, ModelError, OutOfReachError
from edgeprune.prune import CRITERIA
from edgeprune.prune.blocks import Block
from edgeprune.prune.cost import PRICES, WORDS, Bill, Price, check_budget, macs
from edgeprune.prune.criterion import Criterion, Remove
from edgeprune.prune.optimizer_state import check
from edgeprune.prune.pruner import Event, LayerWidth, PruneReport
from edgeprune.prune.schedule import ONE_SHOT, Schedule
from edgeprune.prune.structure import Piece, Structure
from edgeprune.prune.surgery import SurgeryLog
from edgeprune.prune.trial import Example
from edgeprune.registry import resolve, unknown


class StructuredPruner:
    """Channels or whole blocks, at once or gradually, over all layers at once or a fraction of each."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Example | Structure,
        criterion: str | Criterion = "magnitude",
        *,
        optimizer: Optimizer | None = None,
        keep: float = 0.5,
        cost: str = "macs",
        prices: Sequence[Price] | None = None,
        per_cost: bool = False,
        remove: Remove = "channels",
        fractions: Mapping[str, float] | None = None,
        align: int = 1,
        schedule: Schedule = ONE_SHOT,
    ) -> None:
        """The model is not cut before `step`.

        `example_inputs` is one sample, [1, C, H, W] or inputs by name, or what was found with it. `keep` is the
        fraction of the cost that may stay: of `macs`, `weights`, or whatever `prices` say. With `per_cost` what goes
        first is what matters least for what it costs, not what matters least. `fractions` by layer, or
        pattern of layers (`layer1.*`), is what that layer itself keeps of its channels; 1: it stays whole, and what it
        shares channels with; of blocks, that with the layer in it. A layer that is cut keeps a multiple of `align`
        channels.

        Raises OutOfReachError where that cannot be reached, and says what can; ConfigError where a layer is named that
        there is not, or that must stay whole, and for any other value that means nothing, or an optimizer of another
        network; ModelError where there is nothing to remove from.
        """
        check_budget(keep, cost if prices is None else None, align)
        if remove not in get_args(Remove):
            raise ConfigError(f"remove {remove!r}: write one of {', '.join(get_args(Remove))}")
        if optimizer is not None:
            check(optimizer, model)
        found = example_inputs if isinstance(example_inputs, Structure) else None
        self.structure = found or Structure(model, example_inputs, optimizer)  # type: ignore[arg-type]
        self.model, self.optimizer = model, optimizer
        self.structure.optimizer = optimizer
        self.criterion: Criterion = (
            resolve(CRITERIA, criterion, "pruner")() if isinstance(criterion, str) else criterion
        )
        self.keep, self.cost, self.remove, self.align, self.schedule = keep, cost, remove, align, schedule
        self.per_cost = per_cost
        self._steps, self._events = 0, list[Event]()
        self._macs = Bill(macs(self.structure.trial))
        self._macs_before = self._macs.total
        self._bill = Bill(tuple(prices) if prices is not None else PRICES[cost](self.structure.trial))
        self._before = self._bill.total
        self._stays = frozenset[str]()
        self._fractions = dict[int, float]()
        if remove == "blocks":
            self._stays = self._asked_whole(fractions or {})
        else:
            self._fractions = self._by_group(fractions or {})
        self._check()
        self._hook = None
        if optimizer is not None and self.criterion.observes:
            self._hook = optimizer.register_step_pre_hook(lambda *_: self.observe())

    @property
    def log(self) -> SurgeryLog:
        """All that was removed so far."""
        return self.structure.log

    @property
    def report(self) -> PruneReport:
        """Widths of all convolutions, dense and recurrent layers, and why some were left."""
        now = self.structure.widths_now()
        return PruneReport(
            self.criterion.name,
            self.keep,
            self.align,
            self.cost,
            self._before,
            self._bill.total,
            round(self._macs_before),
            round(self._macs.total),
            tuple(self._layer(name, after) for name, after in now.items()),
            self.log.blocks,
            tuple(self._events),
            self.structure.unfollowed,
        )

    @property
    def done(self) -> bool:
        """Whether all was removed that is to be."""
        return self._steps >= self.schedule.last

    def observe(self) -> None:
        """Look at the gradients as they stand: the optimizer does this by itself if the pruner was made with it."""
        self.criterion.observe(self.structure, self.remove)

    def step(self, loss: Tensor | None = None) -> bool:
        """Prune, if it is time to; whether anything was removed. The loss does not matter.

        Nothing is removed from a network whose training diverged, so that its last good state still fits it.
        Raises ModelError where the cut network would compute something else; it is then as it was.
        """
        self._steps += 1
        if not self.schedule.is_due(self._steps) or not self.structure.is_finite:
            return False
        pieces = list(self._chosen(self.schedule.progress(self._steps)))
        if self.done and self._hook is not None:
            self._hook.remove()
        if pieces:
            self._remove(pieces)
        return bool(pieces)

    def state_dict(self) -> dict[str, Any]:
        """What was removed and when, and what the criterion has seen."""
        events = [(one.step, one.kept, dict(one.layers), list(one.blocks), one.dropped) for one in self._events]
        return {
            "steps": self._steps,
            "events": events,
            "structure": self.structure.state_dict(),
            "criterion": self.criterion.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Cuts the dense network, so load this first, then the network's and the optimizer's.

        Raises ModelError where the state is another network's, or something was removed from this one before.
        """
        self.structure.load_state_dict(state["structure"])
        self._steps = state["steps"]
        self._events = [
            Event(step, kept, layers, tuple(blocks), dropped) for step, kept, layers, blocks, dropped in state["events"]
        ]
        self.criterion.load_state_dict(state["criterion"])
        self._macs, self._bill = self._billed(self._macs.prices), self._billed(self._bill.prices)
        if self.done and self._hook is not None:
            self._hook.remove()

    def _remove(self, pieces: Sequence[Piece]) -> None:
        before = self.structure.widths_now()
        self.structure.remove(pieces)
        for piece in pieces:
            lost = self.structure.lost(piece)
            self._macs.remove(lost, piece.block)
            self._bill.remove(lost, piece.block)
        now = self.structure.widths_now()
        changed = {name: before[name] - now[name] for name in now if now[name] < before[name]}
        blocks = tuple(piece.block for piece in pieces if piece.block)
        self._events.append(Event(self._steps, self._bill.total / self._before, changed, blocks))
        self.criterion.removed()

    def _billed(self, prices: Sequence[Price]) -> Bill:
        """What all costs with what was removed so far."""
        lost = Counter({(cut.module, cut.axis): len(cut.removed) for cut in self.log.cuts})
        return Bill(prices, lost, set(self.log.blocks))

    def _chosen(self, progress: float) -> Iterator[Piece]:
        """What goes next, so that `progress` of all that is to go is gone."""
        bill = self._bill.copy()
        for piece in self._by_fraction(progress):
            bill.remove(self.structure.lost(piece), piece.block)
            yield piece
        goal = self._before * (1 - (1 - self.keep) * progress)
        if bill.total <= goal:
            return
        for piece in self._ranked(bill):
            bill.remove(self.structure.lost(piece), piece.block)
            yield piece
            if bill.total <= goal:
                return

    def _ranked(self, bill: Bill) -> list[Piece]:
        """Least important first, or least important for what it costs; then nothing goes that saves nothing."""
        scored = [*(self._blocks() if self.remove == "blocks" else self._channels())]
        if not self.per_cost:
            return [piece for _, piece in sorted(scored, key=lambda one: one[0])]
        saved = [bill.saves(self.structure.lost(piece), piece.block) for _, piece in scored]
        worth = [(score / cost, piece) for (score, piece), cost in zip(scored, saved, strict=True) if cost > 0]
        return [piece for _, piece in sorted(worth, key=lambda one: one[0])]

    def _blocks(self) -> Iterator[tuple[float, Piece]]:
        for block in self._free_blocks:
            if self.structure.is_left(block):
                yield self.criterion.block(self.structure, block), Piece(block=block.name)

    def _channels(self) -> Iterator[tuple[float, Piece]]:
        for group in self._free:
            left = self.structure.left(group)
            if len(left) > self.align:
                scores = self.criterion.channels(self.structure, group)
                order = sorted(left, key=scores.tolist().__getitem__)
                for chunk in self._chunks(order):
                    yield float(scores[list(chunk)].mean()), Piece(group, chunk)

    def _chunks(self, order: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Channels that go together, so that what stays is a multiple of the alignment, and some stay."""
        start, stop = 0, len(order) % self.align or self.align
        while len(order) - stop >= self.align:
            yield tuple(order[start:stop])
            start, stop = stop, stop + self.align

    def _by_fraction(self, progress: float) -> Iterator[Piece]:
        """What goes from groups that have a fraction of their own."""
        for group, fraction in self._fractions.items():
            left, total = self.structure.left(group), self.structure.groups[group].channels
            stay = max(math.ceil(total * (1 - (1 - fraction) * progress) / self.align), 1) * self.align
            if left and stay < len(left):
                scores = self.criterion.channels(self.structure, group).tolist()
                yield Piece(group, tuple(sorted(left, key=scores.__getitem__)[: len(left) - stay]))

    @cached_property
    def _free_blocks(self) -> tuple[Block, ...]:
        """That may go."""
        return tuple(
            block
            for block in self.structure.blocks
            if not block.whole and not any(block.holds(name) for name in self._stays)
        )

    @cached_property
    def _free(self) -> tuple[int, ...]:
        """Groups that are ranked together."""
        groups = enumerate(self.structure.groups)
        return tuple(number for number, group in groups if not group.whole and number not in self._fractions)

    def _by_group(self, fractions: Mapping[str, float]) -> dict[int, float]:
        """By group what it keeps; the most, where patterns for several of its layers differ."""
        found: dict[int, float] = {}
        for pattern, fraction in fractions.items():
            if not 0 < fraction <= 1:
                raise ConfigError(f"fraction {fraction:g} of {pattern}: write one above 0, up to 1")
            for name in _named(pattern, self.structure.widths):
                number, why = self.structure.group_of(name)
                if number is not None and not why:
                    found[number] = max(found.get(number, 0.0), fraction)
                elif fraction < 1 and name == pattern:
                    raise ConfigError(f"{name}: must stay whole ({why}): leave it out of the fractions")
        return found

    def _asked_whole(self, fractions: Mapping[str, float]) -> frozenset[str]:
        """Blocks that stay, and layers whose blocks stay."""
        for pattern, fraction in fractions.items():
            if fraction != 1:
                raise ConfigError(f"fraction {fraction:g} of {pattern}: blocks go or stay: write 1 for those that stay")
        names = [*self.structure.widths, *(block.name for block in self.structure.blocks)]
        return frozenset(name for pattern in fractions for name in _named(pattern, names))

    def _check(self) -> None:
        """Refuse what cannot be reached, before anything is trained for it."""
        if not self._before:
            name = type(self.model).__name__
            raise ModelError(f"{name}: has no convolution, dense or recurrent layer: use --pruner none")
        bill = self._bill.copy()
        for piece in (*self._least_by_fraction(), *self._all()):
            bill.remove(self.structure.lost(piece), piece.block)
        if bill.total > self.keep * self._before:
            reached = math.ceil(bill.total / self._before * 1000) / 1000
            how = "by removing whole blocks" if self.remove == "blocks" else f"in multiples of {self.align} channels"
            if self.cost == "weights":
                raise OutOfReachError(
                    f"sparsity {1 - self.keep:g} cannot be reached {how}: {1 - reached:g} can: remove less"
                )
            raise OutOfReachError(
                f"keep {self.keep:g} cannot be reached {how}: {reached:g} of the {WORDS.get(self.cost, self.cost)} can:"
                " keep more"
            )

    def _all(self) -> Iterable[Piece]:
        """All that may go."""
        if self.remove == "blocks":
            return [Piece(block=block.name) for block in self._free_blocks]
        lefts = {group: self.structure.left(group) for group in self._free}
        return [
            Piece(group, chunk)
            for group, left in lefts.items()
            if len(left) > self.align
            for chunk in self._chunks(left)
        ]

    def _least_by_fraction(self) -> Iterator[Piece]:
        for group, fraction in self._fractions.items():
            left = self.structure.left(group)
            stay = max(math.ceil(self.structure.groups[group].channels * fraction / self.align), 1) * self.align
            if stay < len(left):
                yield Piece(group, tuple(left[: len(left) - stay]))

    def _layer(self, name: str, after: int) -> LayerWidth:
        before = self.structure.widths[name]
        return LayerWidth(name, before, after, self._why(name) if after == before else "")

    def _why(self, name: str) -> str:
        if name in self._stays:
            return "it was asked to stay whole"
        if self.remove == "blocks":
            return "blocks are removed, or stay as they are"
        number, whole = self.structure.group_of(name)
        if number is None or whole:
            return whole
        if self._fractions.get(number) == 1:
            return "it was asked to stay whole"
        channels = self.structure.groups[number].channels
        if number in self._fractions:
            return (
                f"{self._fractions[number]:g} of its {channels} channels in multiples of {self.align} are all of them"
            )
        if channels <= self.align:
            return f"{channels} channels are no more than the alignment of {self.align}"
        return "its channels rank above those removed" if self.log else "not pruned yet"


def _named(pattern: str, layers: Collection[str]) -> list[str]:
    """Those that a pattern names. Raises ConfigError where it names none."""
    named = [name for name in layers if fnmatchcase(name, pattern)]
    if not named:
        raise ConfigError(str(unknown("layer", pattern, layers)))
    return named
