"""Which blocks of a network can be removed as a whole: what is left of one gives what it is given.

Nothing is known of architectures. A residual block is a module that, with the last layers of its branch at zero, gives
its input; a layer of a stack is one of several modules of a class, in a list, that keep the shape of what they are
given. Both are tried: without the block the network must run, and a residual one must compute what it computed with the
branch at zero.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.prune.sides import directions
from edgeprune.prune.surgery import SurgeryLog
from edgeprune.prune.trial import TOLERANCE, Trial, silence


@dataclass(frozen=True)
class Block:
    """A module that can be skipped, or a layer of a stacked recurrent one (`lstm:1`)."""

    name: str
    ends: tuple[str, ...]
    """Parameters: those of the layers that, at zero, silence a residual branch, or all of a layer of a stack."""
    residual: bool = True
    whole: str = ""
    """Why it cannot be removed; empty where it can."""

    def holds(self, name: str) -> bool:
        """Whether that is the block itself, or a layer in it; or the layer of whose stack it is one."""
        return name == self.name or f"{name}.".startswith(f"{self.name.partition(':')[0]}.")


@dataclass(frozen=True)
class _Call:
    """What a module was called with, and what it gave."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    given: object

    @property
    def keeps_shape(self) -> bool:
        """Whether it maps a tensor to one of the same shape."""
        first = self.args[0] if self.args else None
        return isinstance(first, Tensor) and isinstance(self.given, Tensor) and self.given.shape == first.shape


def find_blocks(trial: Trial) -> tuple[Block, ...]:
    """All of them, in the order of the network's modules; none lies in another."""
    calls, order = _record(trial)
    tied = _tied(trial.model)
    found: list[Block] = []
    for name, call in calls.items():
        module = trial.model.get_submodule(name)
        if not name or not call.keeps_shape or not any(True for _ in module.children()):
            continue
        inside = [one for one in order if one.startswith(f"{name}.")]
        if not inside:
            continue
        block = _residual(trial.model, name, call, inside) or _of_stack(trial.model, name)
        if block is not None:
            found.append(block)
    innermost = [one for one in found if not any(other.name.startswith(f"{one.name}.") for other in found)]
    tried = [_tried(trial, one, tied) for one in (*innermost, *_recurrent(trial.model))]
    names = [name for name, _ in trial.model.named_modules()]
    return tuple(sorted(tried, key=lambda one: (names.index(one.name.partition(":")[0]), one.name)))


def _record(trial: Trial) -> tuple[dict[str, _Call], list[str]]:
    """What each module that is called once is called with, and the order in which layers with weights are."""
    calls, counts, order, hooks = dict[str, _Call](), Counter[str](), list[str](), []
    for name, module in trial.model.named_modules():

        def note(
            layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], given: object, name: str = name
        ) -> None:
            calls[name] = _Call(args, kwargs, given)
            counts[name] += 1
            if any(True for _ in layer.parameters(recurse=False)):
                order.append(name)

        hooks.append(module.register_forward_hook(note, with_kwargs=True))
    try:
        trial.outputs(trial.model)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: call for name, call in calls.items() if counts[name] == 1}, order


def _residual(model: nn.Module, name: str, call: _Call, inside: Sequence[str]) -> Block | None:
    """The block, if there are layers that silence its branch: one of them, the last first, or all together."""
    for ends in (*([one] for one in reversed(inside)), list(inside)):
        module = copy.deepcopy(model.get_submodule(name))
        own = [one.removeprefix(f"{name}.") for one in ends]
        parameters = [f"{one}.{two}" for one in own for two, _ in module.get_submodule(one).named_parameters()]
        silence(module, parameters)
        with torch.no_grad():
            given = module(*call.args, **call.kwargs)
        x = call.args[0]
        if float((given - x).abs().max()) <= TOLERANCE * float(x.abs().max()):
            return Block(name, tuple(f"{name}.{one}" for one in parameters))
    return None


def _of_stack(model: nn.Module, name: str) -> Block | None:
    """The block, if it stands in a list beside others of its class."""
    parent = model.get_submodule(name.rpartition(".")[0])
    module = model.get_submodule(name)
    alike = [one for one in parent.children() if type(one) is type(module)]
    if not isinstance(parent, nn.Sequential | nn.ModuleList) or len(alike) < 2 or type(module) is nn.Sequential:
        return None
    return Block(name, tuple(f"{name}.{one}" for one, _ in module.named_parameters()), residual=False)


def _recurrent(model: nn.Module) -> Iterator[Block]:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.RNNBase) and layer.proj_size == 0 and layer.num_layers > 1:
            first = 0 if layer.input_size == directions(layer) * layer.hidden_size else 1
            for number in range(first, layer.num_layers):
                suffixes = (f"_l{number}", f"_l{number}_reverse")
                ends = [f"{name}.{one}".lstrip(".") for one, _ in layer.named_parameters() if one.endswith(suffixes)]
                yield Block(f"{name}:{number}", tuple(ends), residual=False)


def _tied(model: nn.Module) -> frozenset[str]:
    """Parameters that several modules use, by every name."""
    names = [(name, one) for name, one in model.named_parameters(remove_duplicate=False)]
    modules = {id(one): one for one in model.modules()}.values()
    owners = Counter(parameter for module in modules for parameter in module.parameters(recurse=False))
    return frozenset(name for name, one in names if owners[one] > 1)


def _tried(trial: Trial, block: Block, tied: frozenset[str]) -> Block:
    if shared := sorted(name for name in tied if name.startswith(f"{block.name}.")):
        return Block(block.name, block.ends, block.residual, f"{shared[0]} is shared with another layer")
    ends = block.ends if block.residual else ()
    return Block(block.name, block.ends, block.residual, trial.fault(SurgeryLog(blocks=(block.name,)), ends))
