"""Remove channels from a network, and remember which, so that the dense network can be cut the same way again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save as serialize
from torch import Tensor, nn

from edgeprune.errors import CorruptError, ModelError, OutputError
from edgeprune.models.pretrained import PREFIX
from edgeprune.models.zoo import build, is_file, is_local, load_weights, specs_of

SCHEMA = 1
WEIGHTS = "pruned.safetensors"
ARCHITECTURE = "architecture.json"

Axis = Literal["in", "out"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Cut:
    """Channels removed from one side of one layer."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    module: str
    axis: Axis
    removed: tuple[int, ...]
    """Indices into the channels the layer had before."""


@dataclass(frozen=True)
class SurgeryLog:
    """Cuts in the order they were made."""

    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True)
class _Side:
    """What belongs to the input or output channels of a layer."""

    dims: Mapping[str, int]
    """The tensors that hold them, and in which dimension."""
    widths: tuple[str, ...]
    """The attributes that say how many there are; all equal."""


def width(layer: nn.Module, axis: Axis) -> int:
    """Channels on that side of a layer. Raises ModelError where surgery does not know the layer."""
    return int(getattr(layer, _side(layer, axis).widths[0]))


def weight_dim(layer: nn.Module, axis: Axis) -> int:
    """The dimension of `layer.weight` that runs over those channels."""
    return _side(layer, axis).dims["weight"]


def replay(model: nn.Module, log: SurgeryLog) -> None:
    """Cut `model` in place as the log says. Raises ModelError where the log does not fit it."""
    for cut in log.cuts:
        layer = _layer(model, cut)
        side = _side(layer, cut.axis)
        kept = torch.tensor([i for i in range(width(layer, cut.axis)) if i not in set(cut.removed)])
        for name, dim in side.dims.items():
            tensor = getattr(layer, name)
            if tensor is None:
                continue
            rest = tensor.detach().index_select(dim, kept.to(tensor.device))
            setattr(layer, name, nn.Parameter(rest, tensor.requires_grad) if _is_parameter(tensor) else rest)
        for attribute in side.widths:
            setattr(layer, attribute, len(kept))


def mask(model: nn.Module, log: SurgeryLog) -> None:
    """Set to zero, in place, what `replay` would remove: a network that computes the same, at its old size."""
    for cut in log.cuts:
        layer = _layer(model, cut)
        for name, dim in _side(layer, cut.axis).dims.items():
            tensor = getattr(layer, name)
            if tensor is not None:
                tensor.detach().index_fill_(dim, torch.tensor(cut.removed, device=tensor.device), 0)


def save(folder: Path, model: nn.Module, log: SurgeryLog, factory: str, arguments: Mapping[str, Any]) -> None:
    """Write the cut model's weights, and how to make a model that they fit: `factory(**arguments)`, then the log.

    Of a `file.py:factory` or `hf:<folder>` only the last name is kept, so that no path of a machine is. Raises
    OutputError.
    """
    architecture = {
        "schema": SCHEMA,
        "factory": _portable(factory),
        "arguments": dict(arguments),
        "surgery": TypeAdapter(SurgeryLog).dump_python(log, mode="json")["cuts"],
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

    Raises CorruptError where the folder is damaged, ModelError where a needed `factory` is not given.
    """
    stored, arguments, log = _read(folder)
    if is_file(stored) and factory is None:
        raise ModelError(f"{folder}: made by {stored}, which is code of yours: say where that file is (factory=)")
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
        log = TypeAdapter(SurgeryLog).validate_python({"cuts": raw["surgery"]})
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


def _side(layer: nn.Module, axis: Axis) -> _Side:
    if isinstance(layer, _NORMALIZATIONS) and axis == "out":
        return _Side({"weight": 0, "bias": 0, "running_mean": 0, "running_var": 0}, ("num_features",))
    if isinstance(layer, nn.Linear):
        if axis == "out":
            return _Side({"weight": 0, "bias": 0}, ("out_features",))
        return _Side({"weight": 1}, ("in_features",))
    if isinstance(layer, _CONVOLUTIONS) and layer.groups == 1:
        if axis == "out":
            return _Side({"weight": 0, "bias": 0}, ("out_channels",))
        return _Side({"weight": 1}, ("in_channels",))
    if isinstance(layer, _CONVOLUTIONS) and layer.groups == layer.in_channels == layer.out_channels and axis == "out":
        return _Side({"weight": 0, "bias": 0}, ("out_channels", "in_channels", "groups"))  # depthwise: in is out
    grouped = " with groups" if isinstance(layer, _CONVOLUTIONS) else ""
    raise ModelError(f"{type(layer).__name__}{grouped} cannot lose {axis}put channels")


def _layer(model: nn.Module, cut: Cut) -> nn.Module:
    try:
        layer = model.get_submodule(cut.module)
    except AttributeError as error:
        raise ModelError(f"surgery: the model has no layer {cut.module!r}: the log is another model's") from error
    channels = width(layer, cut.axis)
    if not set(cut.removed) < set(range(channels)):
        raise ModelError(
            f"surgery: {cut.module} has {channels} {cut.axis}put channels, {len(set(cut.removed))} up to "
            f"{max(cut.removed)} cannot be removed: the log is another model's"
        )
    return layer


def _is_parameter(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter)
