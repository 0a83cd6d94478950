"""Remove channels and whole blocks from a network, and remember which, so that a dense one can be cut the same way."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.errors import CorruptError, ModelError, OutputError
from edgeprune.models.pretrained import PREFIX
from edgeprune.models.zoo import ZOO, build, is_file, is_local, load_weights, specs_of
from edgeprune.prune.attention import count_heads
from edgeprune.prune.optimizer_state import carry, drop
from edgeprune.prune.sides import Axis, directions, side, width

SCHEMA = 2
WEIGHTS = "pruned.safetensors"
ARCHITECTURE = "architecture.json"


@dataclass(frozen=True)
class Cut:
    """Channels removed from one side of one layer, counted as `sides` does."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    module: str
    axis: Axis
    removed: tuple[int, ...]
    """Indices into the channels the layer had before."""


@dataclass(frozen=True)
class SurgeryLog:
    """What was removed; the cuts leave out what lies inside of removed blocks."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    cuts: tuple[Cut, ...] = ()
    blocks: tuple[str, ...] = ()
    """Modules that give what they are given; `lstm:1` is a layer of a stacked recurrent one."""

    def __bool__(self) -> bool:
        return bool(self.cuts or self.blocks)


class Skip(nn.Module):
    """What a removed block leaves: its first input, whatever else it is given."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Return `x`."""
        return x


def merged(cuts: Iterable[Cut], blocks: Iterable[str] = ()) -> SurgeryLog:
    """One cut per side of each layer, and none inside of a removed block: several groups may meet in one layer."""
    gone, removed = tuple(sorted(set(blocks))), defaultdict[tuple[str, Axis], set[int]](set)
    for cut in cuts:
        if not any(f"{cut.module}.".startswith(f"{block}.") for block in gone):
            removed[cut.module, cut.axis] |= set(cut.removed)
    sides = sorted((key, found) for key, found in removed.items() if found)
    return SurgeryLog(tuple(Cut(module, axis, tuple(sorted(found))) for (module, axis), found in sides), gone)


def replay(model: nn.Module, log: SurgeryLog, optimizer: Optimizer | None = None) -> None:
    """Cut `model` in place as the log says; `optimizer` goes on with what is left.

    Parameters become new objects. Raises ModelError where the log does not fit the model.
    """
    _remove(model, log.blocks, optimizer)
    for cut in log.cuts:
        layer = _layer(model, cut)
        found = side(layer, cut.axis)
        gone = set(cut.removed)
        kept = torch.tensor([one for one in range(found.width) if one not in gone])
        for place in found.places:
            tensor = getattr(layer, place.tensor)
            if tensor is None:
                continue
            rows = place.rows(kept, found.width).to(tensor.device)
            keep = partial(_select, dim=place.dim, rows=rows)
            _replace(layer, place.tensor, keep(tensor.detach()), optimizer, keep)
        for attribute, multiple in found.attributes.items():
            setattr(layer, attribute, multiple * len(kept))
        if isinstance(layer, nn.RNNBase):
            layer.flatten_parameters()
    count_heads(model)


def mask(model: nn.Module, log: SurgeryLog) -> None:
    """Set to zero, in place, the channels that `replay` would remove: what is left computes the same.

    Blocks are removed as by `replay`.
    """
    _remove(model, log.blocks, None)
    for cut in log.cuts:
        layer = _layer(model, cut)
        found = side(layer, cut.axis)
        for place in found.places:
            tensor = getattr(layer, place.tensor)
            if tensor is not None:
                rows = place.rows(torch.tensor(cut.removed, dtype=torch.int64), found.width).to(tensor.device)
                tensor.detach().index_fill_(place.dim, rows, 0)


def save(folder: Path, model: nn.Module, log: SurgeryLog, factory: str, arguments: Mapping[str, Any]) -> None:
    """Write the cut model's weights, and how to make a model that they fit: `factory(**arguments)`, then the log.

    Of a `file.py:factory` or `hf:<folder>` only the last name is kept, so that no path of a machine is. Raises
    OutputError.
    """
    architecture = {
        "schema": SCHEMA,
        "factory": _portable(factory),
        "arguments": dict(arguments),
        "surgery": TypeAdapter(SurgeryLog).dump_python(log, mode="json"),
    }
    try:
        # clones, because safetensors refuses tied weights: two names for the same bytes
        weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
        (folder / WEIGHTS).write_bytes(serialize(weights))
        (folder / ARCHITECTURE).write_text(json.dumps(architecture) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{folder}: the pruned model cannot be written: {error}") from error


def read_log(folder: Path) -> SurgeryLog:
    """The log that `save` wrote. Raises CorruptError."""
    return _read(folder)[2]


def reload(folder: Path, factory: str | None = None) -> nn.Module:
    """The model that `save` wrote: built dense, cut by the log, and given its weights; nothing is unpickled.

    A folder may come from anywhere, so the file of a `file.py:factory` is never taken from it: say it in `factory`.
    So say the folder of a `hf:<folder>`.

    Raises CorruptError where the folder is damaged, ModelError where a needed `factory` is not given, or is another
    name of the zoo.
    """
    stored, arguments, log = _read(folder)
    if is_file(stored) and factory is None:
        raise ModelError(f"{folder}: made by {stored}, which is code of yours: say where that file is (factory=)")
    if factory in ZOO and stored in ZOO and factory != stored:
        raise ModelError(f"{folder}: was made of {stored}, not of {factory}: say {stored}")
    model = build(factory or stored, arguments)
    replay(model, log)
    load_weights(model, folder / WEIGHTS)
    return model


def _read(folder: Path) -> tuple[str, dict[str, Any], SurgeryLog]:
    path = folder / ARCHITECTURE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise CorruptError(f"{path}: schema {raw['schema']!r}, this version reads {SCHEMA}: prune again")
        log = TypeAdapter(SurgeryLog).validate_python(raw["surgery"])
        arguments = dict(raw["arguments"])
        specs_of({**arguments, "classes": int(arguments["classes"])})
        return str(raw["factory"]), arguments, log
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise CorruptError(f"{path}: missing or damaged ({type(error).__name__}): prune again") from error


def _portable(factory: str) -> str:
    if not is_local(factory):
        return factory
    prefix = PREFIX if factory.startswith(PREFIX) else ""
    return prefix + factory.removeprefix(PREFIX).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def _select(tensor: Tensor, *, dim: int, rows: Tensor) -> Tensor:
    """In the layout in memory that it had: some are trained with their channels last."""
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    in_memory = torch.channels_last if last else torch.contiguous_format
    return tensor.index_select(dim, rows.to(tensor.device)).contiguous(memory_format=in_memory)


def _replace(
    layer: nn.Module,
    name: str,
    rest: Tensor,
    optimizer: Optimizer | None,
    cut: Callable[[Tensor], Tensor] | None = None,
) -> None:
    old = getattr(layer, name)
    if not isinstance(old, nn.Parameter):
        setattr(layer, name, rest)
        return
    new = nn.Parameter(rest, old.requires_grad)
    if old.grad is not None:
        new.grad = old.grad if cut is None else cut(old.grad)
    setattr(layer, name, new)
    carry(optimizer, old, new, cut)


def _remove(model: nn.Module, blocks: Iterable[str], optimizer: Optimizer | None) -> None:
    layers = defaultdict[str, set[int]](set)
    for block in blocks:
        module, _, number = block.partition(":")
        if number:
            layers[module].add(int(number))
            continue
        parent, _, name = module.rpartition(".")
        removed = _find(model, module)
        setattr(_find(model, parent), name, Skip())
        for parameter in removed.parameters():
            drop(optimizer, parameter)
    for module, numbers in layers.items():
        _remove_layers(model, module, numbers, optimizer)


def _remove_layers(model: nn.Module, module: str, gone: set[int], optimizer: Optimizer | None) -> None:
    """Take layers out of a stacked recurrent one; the rest are numbered anew."""
    old = _find(model, module)
    if not isinstance(old, nn.RNNBase) or not gone < set(range(old.num_layers)):
        raise ModelError(f"surgery: {module} has no layers {sorted(gone)} to lose: the log is another model's")
    first = min(set(range(old.num_layers)) - gone)
    if first and old.input_size != directions(old) * old.hidden_size:
        raise ModelError(f"surgery: layer {first} of {module} does not take what the network gives: it cannot be first")
    asked = ("bias", "batch_first", "dropout", "bidirectional", *(("nonlinearity",) if type(old) is nn.RNN else ()))
    settings = {name: getattr(old, name) for name in asked}
    kept = [number for number in range(old.num_layers) if number not in gone]
    new: nn.RNNBase = getattr(nn, type(old).__name__)(old.input_size, old.hidden_size, len(kept), **settings)
    stays = set[nn.Parameter]()
    for number, before in enumerate(kept):
        for name, _ in new.named_parameters():
            kind, _, of = name.rpartition("_l")
            if of.partition("_")[0] != str(number):
                continue
            parameter = getattr(old, f"{kind}_l{before}{of[len(str(number)) :]}")
            setattr(new, name, parameter)
            stays.add(parameter)
    for parameter in set(old.parameters()) - stays:
        drop(optimizer, parameter)
    parent, _, name = module.rpartition(".")
    setattr(_find(model, parent), name, new.train(old.training))
    new.flatten_parameters()


def _layer(model: nn.Module, cut: Cut) -> nn.Module:
    layer = _find(model, cut.module)
    channels = width(layer, cut.axis)
    if not set(cut.removed) < set(range(channels)):
        raise ModelError(
            f"surgery: {cut.module} has {channels} {cut.axis}put channels, {len(set(cut.removed))} up to "
            f"{max(cut.removed)} cannot be removed: the log is another model's"
        )
    return layer


def _find(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise ModelError(f"surgery: the model has no layer {name!r}: the log is another model's") from error
