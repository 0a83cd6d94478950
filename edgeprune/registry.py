"""Find what a name stands for: an entry of a package's own table, imported on use, or an installed package."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

from edgeprune.errors import MissingError, UnknownNameError


def unknown(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> UnknownNameError:
    """The error for a name that stands in no table: the nearest first, then all that there are.

    >>> str(unknown("target", "jetsom", ["cpu", "jetson"]))
    "unknown target 'jetsom': did you mean 'jetson'? known: cpu, jetson"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    meant = f"did you mean '{near[0]}'? " if near else ""
    return UnknownNameError(f"unknown {kind} '{name}': {meant}known: {', '.join(names)}{'; ' + hint if hint else ''}")


def resolve(table: Mapping[str, str], name: str, kind: str, *, hint: str = "") -> Any:
    """Import and return what `table[name]` points to.

    Raises UnknownNameError with the nearest name where the table has none.
    """
    if name not in table:
        raise unknown(kind, name, table, hint=hint)
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def require(*modules: str, extra: str) -> None:
    """Raise MissingError with the command that installs them where one of `modules` is not installed."""
    if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
        raise MissingError(f"not installed: {', '.join(missing)}: pip install 'edgeprune[{extra}]'")
