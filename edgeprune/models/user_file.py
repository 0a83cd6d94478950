"""A model factory in a file of the user: `net.py:small`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune import user_code
from edgeprune.errors import ModelError
from edgeprune.models.calling import inputs_of, run
from edgeprune.models.task import misfit
from edgeprune.tensor import TensorSpec

FACTORY = "factory"
TRIED = 2
"""Samples that a module is tried with: one would not show that it mixes them up."""


def call_factory(name: str, arguments: Mapping[str, Any], specs: tuple[TensorSpec, ...]) -> nn.Module:
    """Run `file.py:factory` with those of the arguments that it takes by name, and return its module.

    It is tried as it will be used and trained, on zeros of those of the tensors that it takes: what comes out must be
    what the task is judged by.

    Raises ModelError naming the file, and the line where the user's code raised; MissingError where it needs a package
    that is not installed.
    """
    factory = user_code.load_function(name, FACTORY)
    model = factory(**factory.accepted(arguments))
    if not isinstance(model, nn.Module):
        raise ModelError(f"{factory.path}: {factory.name} returned {type(model).__name__}, a torch.nn.Module is needed")
    what = f"{factory.path}: the model of {factory.name}"
    if next(model.parameters(), None) is None:
        raise ModelError(f"{what} has no parameters: there is nothing to train, prune or quantize")
    try:
        inputs = inputs_of(model, specs)
    except ModelError as error:
        raise ModelError(f"{factory.path}: {error}") from error
    _try(factory, model, what, inputs, arguments)
    return model


def sources(name: str) -> tuple[Path, ...]:
    """The files that decide what `file.py:factory` makes. Raises ModelError where there is no such file."""
    return user_code.sources(name, FACTORY)


def _try(
    factory: user_code.UserFunction,
    model: nn.Module,
    what: str,
    inputs: tuple[TensorSpec, ...],
    arguments: Mapping[str, Any],
) -> None:
    """In evaluation mode, where lazy layers are drawn; then in training, on a copy because that alters it."""
    was_training = model.training
    zeros = {spec.name: torch.zeros(spec.fixed(batch=TRIED), dtype=getattr(torch, spec.dtype)) for spec in inputs}
    given = _shapes(zeros)
    for mode in ("evaluation", "training"):
        with factory.guarded(f"{what} cannot take an input of {given} in {mode}:"), torch.no_grad():
            tried = model.eval() if mode == "evaluation" else copy.deepcopy(model).train()
            try:
                outputs = run(tried, zeros)
            except ModelError as error:
                raise ModelError(f"{what} maps {given} to what is no tensor in {mode}: {error}") from error
        shapes = {name: tuple(one.shape) for name, one in outputs.items()}
        if needed := misfit(shapes, TRIED, arguments):
            raise ModelError(f"{what} maps {given} to {_shapes(outputs)} in {mode}, {needed}")
    model.train(was_training)


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    """Their shapes, with names where there are several."""
    shapes = {name: list(one.shape) for name, one in tensors.items()}
    if len(shapes) == 1:
        return str(next(iter(shapes.values())))
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
