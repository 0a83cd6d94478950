"""`build.json`: how an engine is built on its device, as data; the host writes it, the device reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.errors import ConfigError, CorruptError, MissingError

BUILD = "build.json"
SCHEMA = 2

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Shapes:
    """Of one input: the least and greatest sizes that an engine takes, and those that it is tuned for."""

    min: Sizes
    opt: Sizes
    max: Sizes

    @property
    def free(self) -> bool:
        """Whether anything is left open; an optimization profile holds such inputs only."""
        return self.min != self.max


@dataclass(frozen=True)
class Build:
    """What a device must know to make the engine."""

    path: Path
    since: str
    """The first TensorRT that is known to take the file, or to be worth a try where it is unproven."""
    below: str
    """The first that is not."""
    unproven: str
    """Why nobody knows whether the assumed TensorRT takes the file; empty where it is known to."""
    shapes: Mapping[str, Shapes]
    """By input."""
    builder: Mapping[str, Any]
    """`profiling_verbosity`, whether float32 may be computed in `tf32`, which keeps 10 of its 23 bits, and whether the
    builder looks for kernels of `sparse_weights`."""

    def for_batch(self, batch: int) -> dict[str, Shapes]:
        """The free inputs, tuned for this many samples. Raises ConfigError where the engine takes none of that size."""
        free = {name: one for name, one in self.shapes.items() if one.free}
        for name, one in free.items():
            if not one.min[0] <= batch <= one.max[0]:
                raise ConfigError(
                    f"{self.path}: batch {batch} is asked for, and input '{name}' takes {one.min[0]} to {one.max[0]}"
                )
        return {name: Shapes(one.min, (batch, *one.opt[1:]), one.max) for name, one in free.items()}

    def refuse_other(self, version: str) -> None:
        """Raise MissingError where this TensorRT is outside the range that the file is for."""
        if not numbers(self.since) <= numbers(version) < numbers(self.below):
            raise MissingError(
                f"{self.path}: TensorRT {version} is here, and the file is for {self.since} up to below {self.below}:"
                " install one of those, or compile for a target that assumes this one (`assumes: tensorrt`)"
            )


def read_build(path: Path) -> Build:
    """Read it. Raises CorruptError where it is missing or says something else than `lower` writes."""
    try:
        raw = json.loads(path.read_bytes())
        if raw["schema"] != SCHEMA:
            raise CorruptError(f"{path}: schema {raw['schema']!r}, this version reads {SCHEMA}: compile again")
        (profile,) = raw["profiles"]
        shapes = {
            name: Shapes(*(_sizes(one[bound]) for bound in ("min", "opt", "max"))) for name, one in profile.items()
        }
        since, below, builder = raw["tensorrt"]["from"], raw["tensorrt"]["below"], dict(raw["builder"])
        numbers(since), numbers(below), builder["profiling_verbosity"].upper()
        _answers(builder["tf32"], builder["sparse_weights"])
        return Build(path, since, below, str(raw["unproven"]), shapes, builder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"{path}: no build file that can be read ({type(error).__name__}): compile again") from error


def numbers(version: str) -> tuple[int, int]:
    """Major and minor: what decides of compatibility.

    >>> numbers("10.13.3.9")
    (10, 13)
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise ValueError(f"{version!r} is no version")
    return int(found[1]), int(found[2])


def _answers(*given: Any) -> None:
    if not all(isinstance(one, bool) for one in given):
        raise ValueError("what is asked of the builder is true or false")


def _sizes(given: list[Any]) -> Sizes:
    if not all(isinstance(size, int) and size > 0 for size in given):
        raise ValueError("sizes are whole numbers above 0")
    return tuple(given)
