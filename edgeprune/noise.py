"""How far apart two equal programs seem to be on one machine: what is less is not told from nothing."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeprune.whole_file import write_whole

SCHEMA = 1
MOST = 40
"""Newest controls that count: a machine is not for ever what it was on its worst day."""
ENOUGH = 19
"""Controls that make a floor: another like them is beyond the farthest of n with a chance of 1 in n + 1."""
ASSUMED = 0.01
"""The least that a floor is of fewer, as a share."""
SHARE = 0.95
"""Of the controls that lie below the floor; of few, all do."""


@dataclass(frozen=True)
class Noise:
    """Controls of one machine: ratios of latencies of a program and the very same, each of a whole comparison."""

    environment: str
    """Fingerprint of the machine and its versions."""
    controls: tuple[float, ...] = ()
    """The newest last."""

    @property
    def known(self) -> bool:
        """Whether the controls are enough for the floor to rest on them alone."""
        return len(self.controls) >= ENOUGH

    @property
    def floor(self) -> float:
        """The share of a latency below which no difference is told."""
        distances = [distance(ratio) for ratio in self.controls]
        if not self.known:
            return max(ASSUMED, *distances, 0.0)
        return float(np.quantile(distances, SHARE, method="higher"))

    def with_controls(self, *ratios: float) -> Noise:
        """The same after more comparisons."""
        return replace(self, controls=(*self.controls, *ratios)[-MOST:])


def distance(ratio: float) -> float:
    """How far a ratio is from 1, the same for its inverse."""
    return math.expm1(abs(math.log(ratio)))


def noise_file(root: Path, environment: str) -> Path:
    """Where it is kept below the cache's root."""
    return root / "noise" / f"{environment}.json"


def read_noise(root: Path, environment: str) -> Noise:
    """What is known of a machine; nothing where the file is missing or damaged: it comes again with use."""
    try:
        raw = json.loads(noise_file(root, environment).read_text(encoding="utf-8"))
        controls = tuple(float(ratio) for ratio in raw["controls"])
        ours = (raw["schema"], raw["environment"]) == (SCHEMA, environment)
    except (OSError, ValueError, KeyError, TypeError):
        return Noise(environment)
    return Noise(environment, controls if ours and all(0 < one < math.inf for one in controls) else ())


def write_noise(noise: Noise, root: Path) -> Path:
    """Keep it; the file appears whole or not at all. Raises OutputError."""
    path = noise_file(root, noise.environment)
    content = {"schema": SCHEMA, "environment": noise.environment, "controls": noise.controls}
    write_whole(path, f"{json.dumps(content)}\n".encode(), "make room or set EDGEPRUNE_CACHE=DIR", make_folders=True)
    return path
