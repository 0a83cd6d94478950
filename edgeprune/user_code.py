"""Code of the user: a function in a file, written `net.py:small`."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeprune.errors import EdgePruneError, MissingError, ModelError


@dataclass(frozen=True)
class UserFunction:
    """A function of the user, and what is wrong with it in one line."""

    path: Path
    name: str
    function: Callable[..., Any]

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Call it. Raises ModelError with the line where it raised, MissingError for a package it needs."""
        with self.guarded(f"{self.path}: {self.name} raised"):
            return self.function(*given, **named)

    def accepted(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the arguments that it takes by name."""
        return accepted(self.function, arguments)

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Run code of that file: it may import what lies beside it, and whatever it raises becomes one line."""
        with _neighbours(self.path):
            try:
                yield
            except EdgePruneError:
                raise
            except (Exception, SystemExit) as error:  # code of the user may raise anything
                raise _translated(error, self.path, what) from error


def load_function(name: str, what: str) -> UserFunction:
    """The function that `file.py:function` names; `what` says what it is for, e.g. `factory`.

    The file may import what lies beside it. Raises ModelError naming the file, and the line where it raised;
    MissingError where it needs a package that is not installed.
    """
    path, attribute = split(name, what)
    with _neighbours(path, anew=True):
        module = _execute(path)
    function = getattr(module, attribute, None)
    if not callable(function):
        found = sorted(key for key, value in vars(module).items() if _is_own(value, module))
        listed = ", ".join(found) or "nothing callable"
        raise ModelError(f"{path}: no {what} {attribute!r} in it; it defines {listed}")
    return UserFunction(path, attribute, function)


def accepted(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a function takes by name."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some callables written in C have none
        return {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(arguments)
    named = {key for key, parameter in parameters.items() if parameter.kind is not parameter.POSITIONAL_ONLY}
    return {key: value for key, value in arguments.items() if key in named}


def sources(name: str, what: str) -> tuple[Path, ...]:
    """The file of `file.py:function`, and what it imports from its own folder, and so on: they decide what it does.

    Raises ModelError where there is no such file.
    """
    path, _ = split(name, what)
    found, todo = set(), [path]
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            for root in _imported(file):
                todo += [one for one in (path.parent / f"{root}.py",) if one.is_file()]
                todo += (path.parent / root).rglob("*.py")
    return tuple(sorted(found))


def split(name: str, what: str) -> tuple[Path, str]:
    """The two parts of `file.py:function`. Raises ModelError where there is no such file or no function is named."""
    file, _, attribute = name.rpartition(":")
    if not file.endswith(".py") or not attribute:
        raise ModelError(f"{name}: a {what} is written file.py:{what}")
    path = Path(file)
    if not path.is_file():
        raise ModelError(f"{path}: no such file, so no {what} {attribute!r}")
    return path, attribute


@contextmanager
def _neighbours(path: Path, *, anew: bool = False) -> Iterator[None]:
    """Let the user's code import what lies beside its file; `anew`: as it is now, no module of an earlier load.

    No `.pyc` is read or written: one may be older than a quick edit.
    """
    folder = path.resolve().parent
    if anew or _SEEN.folder != folder:
        _SEEN.forget()
    _SEEN.folder = folder
    before, paths, no_bytecode = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path[:], sys.dont_write_bytecode = paths, no_bytecode
        _SEEN.modules.update(name for name in sys.modules.keys() - before if _is_beside(name, folder))


class _Seen:
    """Modules that the last file imported from its folder; they stay until the next load, for torch looks them up."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.modules: set[str] = set()

    def forget(self) -> None:
        for name in self.modules:
            sys.modules.pop(name, None)
        self.modules.clear()
        importlib.invalidate_caches()


_SEEN = _Seen()


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
    """Run the file as a module of its own."""
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
