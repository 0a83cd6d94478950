"""Which channels of a network can only be removed together, and which not at all.

Torch-Pruning (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023) follows channels through a network.
What it finds together is completed by what it does not know: a convolution with groups loses the same position in each
of them, an attention whole heads, a recurrent layer a unit in all of its directions. An operation that it does not
know it takes for elementwise: a shortcut that pads channels then gives valid shapes and wrong numbers. So each group is
tried (`trial`): where removing half of it computes something else, it stays whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from edgeprune.errors import EdgePruneError, ModelError
from edgeprune.prune.attention import find_attentions
from edgeprune.prune.recurrent import followable
from edgeprune.prune.sides import Axis, computed, side
from edgeprune.prune.surgery import Cut, merged
from edgeprune.prune.trial import Trial

LEADS_OUT = "it is the output"
ROOTS = [
    torch_pruning.ops.TORCH_CONV,
    torch_pruning.ops.TORCH_LINEAR,
    torch_pruning.ops.TORCH_EMBED,
]


@dataclass(frozen=True)
class Member:
    """One side of one layer in a group."""

    module: str
    axis: Axis
    indices: tuple[tuple[int, ...], ...]
    """Per channel of the group the channels here, as `sides` counts them: one, or several behind a flatten."""


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that run through several layers."""

    channels: int
    """That can be removed one by one: hidden units, heads, or what else goes together, count as one."""
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
            Cut(member.module, member.axis, tuple(sorted({i for channel in chosen for i in member.indices[channel]})))
            for member in self.members
        )


@dataclass(frozen=True)
class Groups:
    """All groups of a network."""

    found: tuple[ChannelGroup, ...]
    unfollowed: tuple[str, ...] = ()
    """A line for each part whose channels cannot be followed."""


@dataclass
class _Traced:
    """Channels as Torch-Pruning found them together, before they are joined to units."""

    channels: int
    sides: dict[tuple[str, Axis], list[set[int]]] = field(default_factory=dict)
    whole: str = ""
    padded: bool = False


def find_groups(trial: Trial) -> Groups:
    """All groups of the convolutions, dense, recurrent and embedding layers of a network, each tried.

    A part that Torch-Pruning cannot follow is left whole, and the parts inside of it are followed one by one.
    Raises ModelError where the network itself fails on the example.
    """
    calls = _Calls.of(trial)
    traced: list[_Traced] = []
    unfollowed = list(_follow(trial.model, "", calls, traced))
    rules = [*_computed(trial.model), *_shared(trial.model), *_unreached(trial.model, calls)]
    joined = _joined(traced, trial.model)
    tried = [_tried(trial, group, padded, rules) for group, padded in joined]
    return Groups(tuple(_tried_together(trial, tried)), tuple(unfollowed))


@dataclass(frozen=True)
class _Calls:
    """What each module was last called with, and what it gave."""

    arguments: dict[str, tuple[tuple[Any, ...], dict[str, Any]]]

    @classmethod
    def of(cls, trial: Trial) -> _Calls:
        arguments: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        hooks = []
        for name, module in trial.model.named_modules():

            def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = name) -> None:
                arguments[name] = (args, kwargs)

            hooks.append(module.register_forward_pre_hook(note, with_kwargs=True))
        try:
            trial.outputs(trial.model)
        except EdgePruneError:
            raise
        except Exception as error:  # whatever a module of the user's raises
            raise ModelError(
                f"{type(trial.model).__name__}: fails on one sample ({type(error).__name__}: {_line(error)}):"
                " use --pruner none"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        return cls(arguments)


def _follow(model: nn.Module, name: str, calls: _Calls, traced: list[_Traced]) -> Iterator[str]:
    """Add the groups of a module to `traced`; a line for each part that could not be followed."""
    module = model.get_submodule(name)
    if name not in calls.arguments or not any(True for _ in module.parameters()):
        return
    try:
        traced += _trace(module, name, *calls.arguments[name])
    except Exception as error:  # it follows what it finds in any network, and may meet anything
        yield f"{name or type(model).__name__}: cannot be followed as a whole ({type(error).__name__}: {_line(error)})"
        for child, _ in module.named_children():
            yield from _follow(model, f"{name}.{child}".lstrip("."), calls, traced)


def _trace(module: nn.Module, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Traced]:
    stood, names = followable(module)
    prefix = f"{name}." if name else ""

    def forward(model: nn.Module, given: tuple[tuple[Any, ...], dict[str, Any]]) -> list[Tensor]:
        if found := list(_tensors(model(*given[0], **given[1]))):
            return found
        raise ValueError("gives nothing that weights could be differentiated by")

    graph = torch_pruning.DependencyGraph().build_dependency(
        stood, example_inputs=(args, kwargs), forward_fn=forward, verbose=False
    )
    return [
        _untangled(graph, one, {layer: prefix + own if own else name for layer, own in names.items()})
        for one in graph.get_all_groups(root_module_types=ROOTS)
    ]


def _tensors(given: object) -> Iterator[Tensor]:
    """All that can be differentiated, however deep."""
    if isinstance(given, Tensor):
        if given.grad_fn is not None:
            yield given
    elif isinstance(given, dict):
        for one in given.values():
            yield from _tensors(one)
    elif isinstance(given, list | tuple):
        for one in given:
            yield from _tensors(one)


def _untangled(graph: Any, found: Any, names: dict[nn.Module, str]) -> _Traced:
    traced = _Traced(len(found[0].idxs))
    for item in found:
        node, layer = item.dep.target, item.dep.target.module
        outward = graph.is_out_channel_pruning_fn(item.dep.handler)
        traced.padded |= "ConstantPad" in node.grad_fn.name()
        if outward and not node.outputs:
            traced.whole = LEADS_OUT
        if isinstance(layer, nn.Parameter):
            traced.whole = "it runs through a parameter that belongs to no layer"
        elif layer in names and layer.state_dict():  # else an operation without weights
            key: tuple[str, Axis] = (names[layer], "out" if outward else "in")
            indices = traced.sides.setdefault(key, [set() for _ in range(traced.channels)])
            for index, root in zip(item.idxs, item.root_idxs, strict=True):
                indices[root].add(index)
    return traced


class _Sets:
    """Disjoint sets of things, which can be joined."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def of(self, one: Hashable) -> Hashable:
        """What stands for the set of `one`."""
        path = []
        while (above := self._above.get(one, one)) != one:
            path.append(one)
            one = above
        self._above |= dict.fromkeys(path, one)
        return one

    def join(self, one: Hashable, other: Hashable) -> None:
        self._above[self.of(one)] = self.of(other)


def _joined(traced: Sequence[_Traced], model: nn.Module) -> Iterator[tuple[ChannelGroup, bool]]:
    """Groups of units: channels that layers can lose together only are one; and whether a shortcut pads them."""
    heads = {holder: attention for attention in find_attentions(model) for holder in attention.holders}
    channels, groups = _Sets(), _Sets()
    first: dict[Hashable, tuple[int, int]] = {}
    for number, one in enumerate(traced):
        for (module, axis), indices in one.sides.items():
            _to_units(one, model.get_submodule(module), axis, indices)
            attention = heads.get(module) if axis == "out" else None
            for channel, found in enumerate(indices):
                keys: set[Hashable] = {(module, axis, index) for index in found}
                keys |= {(attention.module, index // attention.size) for index in found if attention is not None}
                for key in keys:
                    other = first.setdefault(key, (number, channel))
                    channels.join((number, channel), other)
                    groups.join(number, other[0])
    units: dict[Hashable, dict[Hashable, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for number, one in enumerate(traced):
        for channel in range(one.channels):
            units[groups.of(number)][channels.of((number, channel))].append((number, channel))
    for found_units in units.values():
        parts = sorted({number for unit in found_units.values() for number, _ in unit})
        sides = dict.fromkeys(key for number in parts for key in traced[number].sides)
        members = [
            Member(module, axis, tuple(_indices(traced, unit, (module, axis)) for unit in found_units.values()))
            for module, axis in sides
        ]
        whole = next((traced[number].whole for number in parts if traced[number].whole), "")
        padded = any(traced[number].padded for number in parts)
        yield ChannelGroup(len(found_units), tuple(members), whole), padded


def _to_units(traced: _Traced, layer: nn.Module, axis: Axis, indices: list[set[int]]) -> None:
    """Count channels as `sides` does; a layer that it does not know keeps the group whole."""
    try:
        width = side(layer, axis).width
    except ModelError as error:
        traced.whole = traced.whole or str(error)
        return
    for found in indices:
        units = {index % width for index in found}
        found.clear()
        found |= units


def _indices(traced: Sequence[_Traced], unit: list[tuple[int, int]], key: tuple[str, Axis]) -> tuple[int, ...]:
    found = {
        index for number, channel in unit if key in traced[number].sides for index in traced[number].sides[key][channel]
    }
    return tuple(sorted(found))


@dataclass(frozen=True)
class _Rule:
    """What stays whole whatever a trial says."""

    modules: frozenset[str]
    reason: str
    widths: frozenset[int] | None = None
    """Of the sides that it concerns; None: all."""

    def holds(self, group: ChannelGroup, model: nn.Module) -> bool:
        return any(
            member.module in self.modules
            and (self.widths is None or side(model.get_submodule(member.module), member.axis).width in self.widths)
            for member in group.members
        )


def _computed(model: nn.Module) -> Iterator[_Rule]:
    """Layers whose weights are made of other parameters, before each run: cut, they would be made anew."""
    for name, module in model.named_modules():
        if made := computed(module):
            yield _Rule(frozenset([name]), f"{made} of {name} is computed from other parameters (a parametrization)")


def _shared(model: nn.Module) -> Iterator[_Rule]:
    """Layers that use one parameter under two names: cut on one side only, they would no longer."""
    owners = defaultdict[nn.Parameter, list[str]](list)
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners[parameter].append(name)
    for names in owners.values():
        if len(names) > 1:
            yield _Rule(frozenset(names), f"{' and '.join(names)} share their weights")


def _unreached(model: nn.Module, calls: _Calls) -> Iterator[_Rule]:
    """What lies around a layer that did not run: on other inputs it may, and would be given what was cut."""
    for name, module in model.named_modules():
        if name in calls.arguments or not any(True for _ in module.parameters(recurse=False)):
            continue
        around = name.rpartition(".")[0]
        inside = frozenset(
            one for one, _ in model.named_modules() if f"{one}.".startswith(f"{around}." if around else "")
        )
        widths = set()
        for axis in ("in", "out"):
            with suppress(ModelError):
                widths.add(side(module, axis).width)
        told = (
            f"{around or type(model).__name__} does not run all of its layers on every input: not {name} on the example"
        )
        yield _Rule(inside, told, frozenset(widths) or None)


def _tried(trial: Trial, group: ChannelGroup, padded: bool, rules: Sequence[_Rule]) -> ChannelGroup:
    if group.whole:
        return group
    if group.channels == 1:
        return replace(group, whole="it has one channel")
    if broken := next((rule.reason for rule in rules if rule.holds(group, trial.model)), ""):
        return replace(group, whole=broken)
    fault = trial.fault(merged(group.cuts(_some(group, group.channels // 2, seed=0))))
    if fault and padded:
        fault = "a shortcut pads its channels with zeros: removing some would shift the rest"
    return replace(group, whole=fault)


def _tried_together(trial: Trial, groups: Sequence[ChannelGroup]) -> list[ChannelGroup]:
    """What passed its trial, cut in other ways, all at once: a group that then fails passed by chance."""
    found = list(groups)
    sizes: tuple[Callable[[int], int], ...] = (lambda n: 1, lambda n: max(n // 2 - 1 | 1, 1), lambda n: n - 1)
    for seed, size in enumerate(sizes, 1):
        free = [number for number, group in enumerate(found) if not group.whole]
        cuts = [found[number].cuts(_some(found[number], size(found[number].channels), seed)) for number in free]
        while fault := trial.fault(merged(one for cut in cuts for one in cut)):
            fits, fails = 0, len(cuts)  # of the first so many groups
            while fails - fits > 1:
                middle = (fits + fails) // 2
                if said := trial.fault(merged(one for cut in cuts[:middle] for one in cut)):
                    fails, fault = middle, said
                else:
                    fits = middle
            found[free[fits]] = replace(found[free[fits]], whole=fault)
            del free[fits], cuts[fits]
    return found


def _some(group: ChannelGroup, count: int, seed: int) -> list[int]:
    return torch.randperm(group.channels, generator=torch.Generator().manual_seed(seed))[:count].tolist()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
