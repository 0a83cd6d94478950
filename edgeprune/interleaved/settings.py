"""How long is measured, and by which samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeprune.backends.backend import Feeds
from edgeprune.errors import ConfigError
from edgeprune.judge import Judge
from edgeprune.scenario import ALONE, BUILT_IN, Scenario


@dataclass(frozen=True)
class Settings:
    """How long is measured. Every variant gets `restarts` processes and in each `rounds` slices, `seconds` in all."""

    restarts: int = 6
    """Six are the fewest that make an interval at 95 %: that from the least to the greatest."""
    seconds: float = 0.35
    rounds: int = 7
    least: int = 3
    """Inferences in a slice at least, however long they take; 42 slices of 3 are enough for p90."""
    most: int = 48
    """Of which that many, the last, are kept; 42 slices of 16 are enough for p99."""
    threads: int | None = None
    """None: as many as the target says."""
    seed: int = 0
    """Of the order in which the variants take their turns."""
    warm_min_s: float = 0.1
    warm_max_s: float = 2.0
    energy_s: float = 10.0
    """0: no energy is asked for."""
    judged: bool = True
    """Whether the variants also answer all samples and are judged by that."""
    timeout_s: float = 600.0
    """For one command to one worker."""
    quantile: float = 0.5
    """Of a slice's inferences, which a speed-up compares; a low one is that of inferences nobody interrupted."""
    confidence: float = 0.95
    """Of a speed-up's interval."""
    limit_s: float = math.inf
    """After which no restart begins that would not be over in time; one is made at least."""
    scenario: Scenario = ALONE
    """LoadGen makes one test of `seconds` in each restart, for its rules hold for a test as a whole."""
    queries: int = 1
    """In each of LoadGen's tests at least."""

    def __post_init__(self) -> None:
        """Raise ConfigError where nothing would be measured."""
        if not 0 < self.seconds < math.inf:
            raise ConfigError(f"a measurement takes a time above 0, and an end: {self.seconds} s given")
        if min(self.restarts, self.rounds, self.least, self.most, self.queries) < 1:
            raise ConfigError("a measurement has one restart, round, inference and query at least")

    @property
    def built_in(self) -> bool:
        """Whether our own loop measures."""
        return self.scenario.driver == BUILT_IN

    @property
    def turns(self) -> int:
        """That each variant has in a restart."""
        return self.rounds if self.built_in else 1


@dataclass(frozen=True)
class EvalSplit:
    """Samples that judge."""

    name: str
    batches: Callable[[], Iterator[Feeds]]
    """All samples in order, preprocessed, a part at a time: arrays [N, ...] by input name."""
    judge: Judge | None
    """Scores what a variant answers to all of them; without one only agreement with the baseline can be told."""
