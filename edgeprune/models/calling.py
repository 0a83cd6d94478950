"""How a module is called: which of the data's tensors it takes, and what its answers are called."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from edgeprune.errors import ModelError
from edgeprune.tensor import TensorSpec, stand_in

INPUT, OUTPUT = "input", "output"
"""What the one input of a module is called that does not take it by its name, and an output without a name."""


def inputs_of(model: nn.Module, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Those of the data's tensors that `forward` takes by name, in the order of its parameters.

    Where the data have one tensor and the module needs no more than one, their names may differ: then it is `input`.
    Of the tensors of a text, one that must be given may have another name, and keeps it.

    Raises ModelError where a parameter must be given and the data have nothing of its name.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    by_name = {spec.name: spec for spec in specs}
    named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    needed = [one.name for one in named if one.default is one.empty]
    by_keyword = [one.name for one in named if one.kind is not one.POSITIONAL_ONLY]
    asked = [name for name in by_keyword if name in by_name or name in needed]
    for name, source in stand_in(asked, list(by_name)).items():
        by_name[name] = replace(by_name[source], name=name)
    taken = [by_name[name] for name in asked if name in by_name]
    if len(specs) == 1 and not taken and len(needed) <= 1 and _takes_one(model):
        return (replace(specs[0], name=INPUT),)
    if (missing := [name for name in needed if name not in by_name]) or not taken:
        wants = ", ".join(missing or [one.name for one in named]) or "nothing"
        raise ModelError(
            f"{type(model).__name__}: forward takes {wants}, the data give {', '.join(spec.name for spec in specs)}:"
            " name its parameters as the data do"
        )
    return tuple(taken)


def run(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Call the module with tensors by the names that `inputs_of` gave, and name its answers.

    Raises ModelError where it returns anything but tensors.
    """
    if tensors.keys() == {INPUT} and INPUT not in inspect.signature(model.forward).parameters:
        return named_outputs(model, model(tensors[INPUT]))
    return named_outputs(model, model(**tensors))


def named_outputs(model: nn.Module, result: object) -> dict[str, Tensor]:
    """The answers of a module by name: those of a dict; `output`, or `output_0`, `output_1`, ... of several.

    Raises ModelError where there is anything but tensors.
    """
    if isinstance(result, Tensor):
        return {OUTPUT: result}
    if isinstance(result, Mapping):
        found = {str(name): one for name, one in result.items()}
    elif isinstance(result, tuple | list):
        single = len(result) == 1
        found = {OUTPUT if single else f"{OUTPUT}_{number}": one for number, one in enumerate(result)}
    else:
        found = {}
    if not found or not all(isinstance(one, Tensor) for one in found.values()):
        raise ModelError(
            f"{type(model).__name__} returns {type(result).__name__}: return a tensor, a tuple or a dict of tensors"
        )
    return found


def _takes_one(model: nn.Module) -> bool:
    """Whether a tensor can be given to it without a name."""
    parameters = inspect.signature(model.forward).parameters.values()
    return any(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.VAR_POSITIONAL) for one in parameters)
