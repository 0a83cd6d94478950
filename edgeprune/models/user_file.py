"""A model factory in a file of the user: `net.py:small`."""

from __future__ import annotations

import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from edgeprune.errors import ModelError


def call_factory(name: str, *, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Run `file.py:factory` with those of the arguments that it takes by name, and return its module.

    The module is tried once: images [1, C, H, W] must come out as scores [1, classes].

    Raises ModelError naming the file, and the line where the user's code raised.
    """
    path, attribute = split(name)
    module = _execute(path)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        found = sorted(key for key, value in vars(module).items() if _is_own(value, module))
        raise ModelError(f"{path}: no factory {attribute!r} in it; it defines {', '.join(found) or 'nothing callable'}")
    arguments = {"input_shape": input_shape, "classes": classes}
    try:
        model = factory(**_accepted(factory, arguments))
    except (Exception, SystemExit) as error:  # code of the user may raise anything
        raise ModelError(f"{path}: {attribute} raised {_where(error, path)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{path}: {attribute} returned {type(model).__name__}, a torch.nn.Module is needed")
    _try(model, f"{path}: the model of {attribute}", path, input_shape, classes)
    return model


def split(name: str) -> tuple[Path, str]:
    """The two parts of `file.py:factory`. Raises ModelError where there is no such file or no factory is named."""
    file, _, attribute = name.rpartition(":")
    if not file.endswith(".py") or not attribute:
        raise ModelError(f"{name}: a model in a file is written file.py:factory")
    path = Path(file)
    if not path.is_file():
        raise ModelError(f"{path}: no such file, so no factory {attribute!r}")
    return path, attribute


def _try(model: nn.Module, what: str, path: Path, input_shape: tuple[int, int, int], classes: int) -> None:
    was_training = model.training
    try:
        with torch.no_grad():
            scores = model.eval()(torch.zeros(1, *input_shape))
    except Exception as error:  # code of the user may raise anything
        raise ModelError(f"{what} cannot take an input of {[1, *input_shape]}: {_where(error, path)}") from error
    model.train(was_training)
    found = list(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
    if found != [1, classes]:
        raise ModelError(f"{what} maps {[1, *input_shape]} to {found}, scores of {[1, classes]} are needed")


def _execute(path: Path) -> ModuleType:
    """Run the file as a module of its own; never from a cached `.pyc`, which may be older than a quick edit."""
    name = f"_edgeprune_user_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ModelError(f"{path}: cannot be imported: {_where(error, path)}") from error
    return module


def _accepted(factory: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # some callables written in C have none
        return {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return arguments
    named = {key for key, parameter in parameters.items() if parameter.kind is not parameter.POSITIONAL_ONLY}
    return {key: value for key, value in arguments.items() if key in named}


def _is_own(value: object, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def _where(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line = error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), None)
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {text}" + (f" (line {line})" if line else "")
