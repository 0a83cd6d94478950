"""The YAML files that come with EdgePrune, found in an installed wheel as in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgeprune.registry import unknown

Kind = Literal["targets", "calibration", "recipes"]

_PACKAGE = Path(__file__).parent
_SINGULAR = {"targets": "target", "calibration": "calibration set", "recipes": "recipe"}


def find(kind: Kind, name: str) -> Path:
    """The file `<kind>/<name>.yaml`. Raises UnknownNameError with the nearest name."""
    known = names(kind)
    if name not in known:
        raise unknown(_SINGULAR[kind], name, known, hint="or the path of a .yaml file")
    return _folder(kind) / f"{name}.yaml"


def names(kind: Kind) -> tuple[str, ...]:
    """All that there are, sorted."""
    return tuple(sorted(path.stem for path in _folder(kind).glob("*.yaml")))


def _folder(kind: Kind) -> Path:
    in_wheel = _PACKAGE / "_shipped" / kind
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parent / kind
