"""What is asked of a model while it is timed: the four scenarios of MLPerf Inference.

V. J. Reddi et al., MLPerf Inference Benchmark, ISCA 2020. `single-stream`: the next sample when the last is answered.
`multi-stream`: the same with queries of several samples. `server`: queries arrive at random (Poisson), and a latency
counts from when one was due, so that waiting in line is in it. `offline`: all samples at once; there is no latency,
only how many are answered in a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeprune.errors import ConfigError

BUILT_IN, LOADGEN = "built-in", "LoadGen"
SCENARIOS = ("single-stream", "multi-stream", "server", "offline")
PERCENTILE = {"single-stream": 90.0, "multi-stream": 99.0, "server": 99.0, "offline": 50.0}
"""What MLPerf judges a scenario by, and so how many queries are needed at least."""
STREAMS = 8
"""Samples in a query of MLPerf's multi-stream."""


@dataclass(frozen=True)
class Scenario:
    """A load, and what is at its ends. Results of unlike scenarios are never compared."""

    name: str = "single-stream"
    driver: str = BUILT_IN
    """`built-in`, a loop for single-stream that needs nothing, or `LoadGen`, MLCommons' own."""
    samples_per_query: int = 1
    batch: int = 1
    """Samples that the model is given at a time."""
    queries_per_s: float | None = None
    """That arrive, in `server`."""
    deadline_ms: float | None = None
    """Of a query, in `server`."""

    def __post_init__(self) -> None:
        """Raise ConfigError where it is no load that can be made."""
        if self.name not in SCENARIOS:
            raise ConfigError(f"scenario {self.name!r}: known are {', '.join(SCENARIOS)}")
        if self.driver == BUILT_IN and self.name != "single-stream":
            raise ConfigError(f"scenario {self.name}: the built-in loop is for single-stream, {LOADGEN} for all")
        for what, value in (("queries per second", self.queries_per_s), ("deadline", self.deadline_ms)):
            if self.name == "server" and not (value is not None and 0 < value < math.inf):
                raise ConfigError(f"scenario server: the {what} must be above 0: {value} given")
        if self.batch < 1 or self.samples_per_query < 1:
            raise ConfigError(f"scenario {self.name}: a batch and a query hold one sample at least")
        if self.name != "offline" and self.samples_per_query % self.batch:
            raise ConfigError(
                f"scenario {self.name}: a query of {self.samples_per_query} cannot be answered {self.batch} at a time"
            )

    @property
    def has_latency(self) -> bool:
        """Whether a latency means something: offline, a sample waits for all that were asked before it."""
        return self.name != "offline"

    def __str__(self) -> str:
        told = [self.name]
        if self.samples_per_query > 1:
            told.append(f"{self.samples_per_query} samples a query")
        if self.batch > 1:
            told.append(f"batch {self.batch}")
        if self.queries_per_s is not None and self.deadline_ms is not None:
            told.append(f"{self.queries_per_s:.4g} queries/s, Poisson, deadline {self.deadline_ms:g} ms")
        return ", ".join([*told, *([f"by {self.driver}"] if self.driver != BUILT_IN else [])])


ALONE = Scenario()
"""One sample after another, asked for by the built-in loop: what is meant where nothing else is said."""
