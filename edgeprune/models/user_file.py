"""A model factory in a file of the user: `net.py:small`."""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from edgeprune.errors import EdgePruneError, MissingError, ModelError

TRIED = 2
"""Samples that a module is tried with: one would not show that it mixes them up."""


def call_factory(name: str, *, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Run `file.py:factory` with those of the arguments that it takes by name, and return its module.

    The file may import what lies beside it. The module is tried as it will be used and trained: images [N, C, H, W]
    must come out as scores [N, classes].

    Raises ModelError naming the file, and the line where the user's code raised; MissingError where it needs a package
    that is not installed.
    """
    path, attribute = split(name)
    with _neighbours(path):
        module = _execute(path)
        factory = getattr(module, attribute, None)
        if not callable(factory):
            found = sorted(key for key, value in vars(module).items() if _is_own(value, module))
            listed = ", ".join(found) or "nothing callable"
            raise ModelError(f"{path}: no factory {attribute!r} in it; it defines {listed}")
        arguments = {"input_shape": input_shape, "classes": classes}
        try:
            model = factory(**_accepted(factory, arguments))
        except (Exception, SystemExit) as error:  # code of the user may raise anything
            raise _translated(error, path, f"{path}: {attribute} raised") from error
        if not isinstance(model, nn.Module):
            raise ModelError(f"{path}: {attribute} returned {type(model).__name__}, a torch.nn.Module is needed")
        _try(model, f"{path}: the model of {attribute}", path, input_shape, classes)
    return model


def sources(name: str) -> tuple[Path, ...]:
    """The file of `file.py:factory`, and what it imports from its own folder, and so on: they decide what it makes.

    Raises ModelError where there is no such file.
    """
    path, _ = split(name)
    found, todo = set(), [path]
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            for root in _imported(file):
                todo += [one for one in (path.parent / f"{root}.py",) if one.is_file()]
                todo += (path.parent / root).rglob("*.py")
    return tuple(sorted(found))


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
    """In evaluation mode, where lazy layers are drawn; then in training, on a copy because that alters it."""
    if next(model.parameters(), None) is None:
        raise ModelError(f"{what} has no parameters: there is nothing to train, prune or quantize")
    was_training = model.training
    shape = [TRIED, *input_shape]
    for mode in ("evaluation", "training"):
        try:
            tried = model.eval() if mode == "evaluation" else copy.deepcopy(model).train()
            with torch.no_grad():
                scores = tried(torch.zeros(shape))
        except (Exception, SystemExit) as error:  # code of the user may raise anything
            raise _translated(error, path, f"{what} cannot take an input of {shape} in {mode}:") from error
        found = list(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        if found != [TRIED, classes]:
            raise ModelError(f"{what} maps {shape} to {found} in {mode}, scores of {[TRIED, classes]} are needed")
    model.train(was_training)


@contextmanager
def _neighbours(path: Path) -> Iterator[None]:
    """Let the user's code import what lies beside its file as it is now: no `.pyc`, no module of an earlier call."""
    for name in _SEEN:
        sys.modules.pop(name, None)
    _SEEN.clear()
    importlib.invalidate_caches()
    folder = path.resolve().parent
    before, paths, no_bytecode = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path[:], sys.dont_write_bytecode = paths, no_bytecode
        _SEEN.update(name for name in sys.modules.keys() - before if _is_beside(name, folder))


_SEEN: set[str] = set()
"""Modules that the last file imported from its folder; they stay until the next call, for torch looks them up."""


def _is_beside(name: str, folder: Path) -> bool:
    """Whether a module is a file or in a package of the folder; not in an environment that lies below it."""
    file, root = getattr(sys.modules[name], "__file__", None), folder / name.partition(".")[0]
    return file is not None and (Path(file) == root.with_suffix(".py") or Path(file).is_relative_to(root))


def _imported(file: Path) -> set[str]:
    """Top-level names that a file imports anywhere; none where it is not Python."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):
        return set()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names}


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
        raise _translated(error, path, f"{path}: cannot be imported:") from error
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


def _translated(error: BaseException, path: Path, what: str) -> EdgePruneError:
    """Type, text and line in the user's file, in one line."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line = error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), None)
    where = f" (line {line})" if line else ""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package and package not in sys.modules and importlib.util.find_spec(package) is None:
        return MissingError(f"{path}: needs {package}, which is neither installed nor beside it{where}: install it")
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return ModelError(f"{what} {type(error).__name__}{f': {text}' if text else ''}{where}")
