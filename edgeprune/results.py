"""What was measured: one record per variant, with its raw samples and its environment."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from edgeprune.adapter import adapter
from edgeprune.errors import CorruptError
from edgeprune.metrics import Interval, order_statistic_interval
from edgeprune.roofline import Limit, Peaks
from edgeprune.scenario import ALONE, Scenario
from edgeprune.whole_file import whole

SCHEMA = 1
MB = 1_000_000
PASSING = frozenset({"load_average", "temperature_c", "clock_mhz", "throttled"})
"""Of an environment: what may be another from one minute to the next."""
EMULATED, SIMULATED = "emulated", "simulated"
"""What `unmeasured` says of a device whose times mean nothing."""

# Samples that let a percentile be claimed at 99 % confidence with one outlier allowed: the binomial bound of LoadGen.
SAMPLES_FOR_PERCENTILE = {50.0: 1, 90.0: 64, 95.0: 130, 99.0: 662, 99.9: 6636}


@dataclass(frozen=True)
class Environment:
    """Where and with what a number was found; only like is compared with like."""

    machine: str
    """The processor's name."""
    arch: str
    """`x86_64` or `aarch64`."""
    isa: tuple[str, ...]
    """Instruction sets that matter to a runtime: `avx2`, `avx512_vnni`, `avx512_bf16`, `asimddp`, ..."""
    cores: int
    memory_bytes: int
    os: str
    python: str
    versions: dict[str, str]
    """Of EdgePrune, NumPy and each runtime that is installed."""
    threads: int = 1
    governor: str = "unknown"
    emulated: bool = False
    load_average: float = 0.0
    """Processes that wanted a core in the minute before: a busy machine shows here."""
    temperature_c: float | None = None
    clock_mhz: float | None = None
    """Of the fastest core; None where the system does not tell."""
    throttled: int | None = None
    """How often the processor slowed itself down for heat since it was started."""
    turbo: bool | None = None
    smt: bool | None = None
    """Whether two threads share a core."""
    power_mode: str | None = None
    """Of a Jetson, as `nvpmodel` has set it."""

    def fingerprint(self) -> str:
        """Hash of all that lasts and is known (not load and heat): equal fingerprints may be compared."""
        lasting = adapter(Environment).dump_python(self, exclude=set(PASSING), exclude_none=True, mode="json")
        return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Layer:
    """One layer's intended precision beside the one the runtime really used."""

    name: str
    op: str
    intended: str
    effective: str
    """`int8`, `fp32`, `bf16`, `fp16`, or `unknown` where the runtime does not tell."""
    reason: str = ""
    """Why the two differ, or why the layer was meant to stay float."""
    ms: float | None = None
    """Its share of one inference, by the runtime's own profile; None where there is no profile."""

    @property
    def fell_back(self) -> bool:
        """Whether the runtime computed it in a higher precision than intended, or in one nobody can tell."""
        return self.effective != self.intended


@dataclass(frozen=True)
class Accuracy:
    """The deployed artifact's task metric on one split."""

    metric: str
    split: str
    samples: int
    value: Interval
    drop: Interval | None
    """Lost against the unpruned FP32 baseline on the same samples (paired); None for the baseline itself."""
    source: str
    """`measured`, or `simulated (how)`."""


@dataclass(frozen=True)
class Energy:
    """Joules per inference from a named sensor, or why there is none."""

    joules: float | None
    sensor: str | None
    reason: str
    """Why it is unavailable; empty where it was measured."""
    idle_watts: float | None = None
    sampling_hz: float | None = None
    seconds: float | None = None
    """That it was measured, in the process whose latency was."""
    runs: int | None = None
    """Inferences in that time."""


@dataclass(frozen=True)
class Foretold:
    """What a latency table says of a variant that nobody timed."""

    ms: float | None
    """p50 at batch 1; None where an operator is unknown."""
    how: str
    """Of which machine the table is and how much was interpolated, or what is unknown."""


@dataclass(frozen=True)
class Distance:
    """How far an output is from what it is held against, over some samples."""

    output: str
    largest: float
    """The largest difference, in parts of the largest number it is held against."""
    snr_db: float
    """Signal-to-noise ratio, 300 at most."""


@dataclass(frozen=True)
class Parity:
    """What a variant's file says beside what the float graph does, and what its runtime computes beside what it says.

    All on the same real samples.
    """

    samples: int
    file: tuple[Distance, ...] = ()
    """From the float graph's answers to what the file says, computed in float; empty where there is no float graph."""
    runtime: tuple[Distance, ...] = ()
    """From there to the runtime's answers; empty where it is not here."""
    metric: str = ""
    """The task's first; empty where nothing is labelled."""
    file_score: float | None = None
    runtime_score: float | None = None
    fault: str = ""
    """What departs, and at which layer first; empty where nothing does."""


@dataclass(frozen=True)
class Measurement:
    """All that was found out about one variant of one bundle."""

    bundle: str
    """The bundle's core hash."""
    model: str
    target: str
    variant: str
    backend: str
    precision: str
    size_bytes: int
    """The variant's files on disk."""
    accuracy: tuple[Accuracy, ...]
    unproven: str = ""
    """Why nobody knows whether the device's runtime takes the files; empty where it is known to, or was measured."""
    unmeasured: str = ""
    """Why there is no latency, e.g. `no device`; empty where there is."""
    failed: bool = False
    """Whether it is the device that failed: the command ends with 5."""
    environment: Environment | None = None
    scenario: Scenario = ALONE
    """Under which load."""
    samples_ms: tuple[tuple[float, ...], ...] = ()
    """One tuple per process restart, in the order it happened; of each slice the last inferences that were timed, by
    LoadGen every query. Empty where the scenario has no latency."""
    samples_per_s: tuple[float, ...] = ()
    """Per restart: how many were answered; by LoadGen only."""
    foretold: Foretold | None = None
    """Where nothing was timed and a latency table was given."""
    load_ms: tuple[float, ...] = ()
    """Per restart: reading the file and building the session, without what `compile_ms` tells."""
    compile_ms: tuple[float, ...] = ()
    """Per restart: what the runtime makes of the model for this device; empty where that is no step of its own."""
    compile_cached: tuple[bool, ...] = ()
    """Per restart: whether that was found in a cache."""
    first_inference_ms: tuple[float, ...] = ()
    speedup: Interval | None = None
    """Baseline latency / this latency, the two interleaved in the same run; None for fewer than six restarts."""
    environment_after: Environment | None = None
    """The same when all was over: the load, the heat and the clock then."""
    limit: Limit | None = None
    """What the machine would take at its measured peaks; None where those or the graph are not known."""
    peak_memory_bytes: int | None = None
    """Largest resident set of the child process less its size once the runtime was imported."""
    device_memory_bytes: int | None = None
    """Held on a GPU, apart from that; None where there is none."""
    loaded_bytes: int | None = None
    """`size_bytes` with the weights as wide as its kernels have them: 4 bits of a file are unpacked to 8, floats
    shortened to 16; None where weights were not counted."""
    energy: Energy = Energy(None, None, "not measured")
    estimated_joules: float | None = None
    """By what is published of operations (`energy_estimate.py`), never measured; None where the graph is not known."""
    layers: tuple[Layer, ...] = ()
    parity: Parity | None = None
    """Whether it computes what the float graph does; None where that was not looked at."""
    warnings: tuple[str, ...] = ()
    """What a reader must know: a busy machine, an unstable warm-up, ..."""
    measured_at: str = ""
    """UTC, ISO 8601."""
    schema: int = SCHEMA

    @property
    def samples(self) -> int:
        """How many timed inferences were kept."""
        return sum(len(run) for run in self.samples_ms)

    def percentile_ms(self, q: float) -> float | None:
        """Latency at percentile `q`; None where there are not enough samples to claim it."""
        if self.samples < SAMPLES_FOR_PERCENTILE[q]:
            return None
        return float(np.percentile(np.concatenate(self.samples_ms), q))

    def percentile_interval_ms(self, q: float) -> Interval | None:
        """Interval of the median restart's percentile; None for fewer than six restarts.

        Inferences of one process resemble each other, so the restarts are what is independent, not the inferences.
        """
        if self.samples < SAMPLES_FOR_PERCENTILE[q]:
            return None
        return order_statistic_interval([np.percentile(run, q) for run in self.samples_ms])

    @property
    def limit_share(self) -> float | None:
        """How much of the machine's limit the median latency reaches; None where either is not known."""
        p50 = self.percentile_ms(50) if self.scenario.has_latency else None
        return None if self.limit is None or p50 is None else self.limit.share(p50)

    @property
    def throughput(self) -> float | None:
        """Samples per second of the median restart; None where they were not counted."""
        return float(np.median(self.samples_per_s)) if self.samples_per_s else None

    @property
    def late(self) -> float | None:
        """Share of the queries that missed the scenario's deadline; None where there is none, or no query."""
        deadline_ms = self.scenario.deadline_ms
        if deadline_ms is None or not self.samples:
            return None
        return float(np.mean(np.concatenate(self.samples_ms) > deadline_ms))

    @property
    def fallbacks(self) -> tuple[Layer, ...]:
        """Layers that did not run as intended."""
        return tuple(layer for layer in self.layers if layer.fell_back)


@dataclass(frozen=True)
class Measured:
    """`measured.json`: the measurements of one bundle and the variant that they make the default."""

    default: str | None
    default_reason: str
    baseline: Measurement
    measurements: tuple[Measurement, ...]
    peaks: Peaks | None = None
    """What the machine can do at most, which the limits are of; None where it is not known."""
    schema: int = field(default=SCHEMA)


def write(record: Measurement | Measured, path: Path) -> None:
    """Write one record as JSON; the file appears whole or not at all."""
    kind: Any = type(record)
    with whole(path) as partial:
        partial.write_bytes(adapter(kind).dump_json(record, indent=1) + b"\n")


def read_measurement(path: Path) -> Measurement:
    """Read one measurement. Raises CorruptError where it is not one of a schema this version knows."""
    record: Measurement = _read(path, Measurement)
    return record


def read_measured(path: Path) -> Measured:
    """Read a bundle's `measured.json`. Raises CorruptError where it is not one of a schema this version knows."""
    record: Measured = _read(path, Measured)
    return record


def _read(path: Path, kind: type) -> Any:
    try:
        raw = json.loads(path.read_bytes())
        if raw.get("schema") != SCHEMA:
            raise CorruptError(f"{path}: schema {raw.get('schema')!r}, this version reads {SCHEMA}: measure again")
        return adapter(kind).validate_python(raw)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        raise CorruptError(f"{path}: not a measurement ({type(error).__name__}): measure again") from error
