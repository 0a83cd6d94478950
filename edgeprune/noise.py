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
LEAST = 3
"""Controls that make a floor."""
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
    def floor(self) -> float | None:
        """The share of a latency below which no difference is told; None where there are too few controls."""
        if len(self.controls) < LEAST:
            return None
        return float(np.quantile([distance(ratio) for ratio in self.controls], SHARE, method="higher"))

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
