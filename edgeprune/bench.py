"""Measure the variants of a bundle beside its baseline: workers in, Measurements out.

Speed is compared only within one run: per process restart every variant has a process of its own, all alive at once,
and they take turns in short slices, in another random order each round, so that what disturbs the machine disturbs all
of them alike. No process is tied to a core: on a shared machine it would wait for that one while another is free.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeprune.arrays import save_arrays
from edgeprune.backends import EFFECTIVE
from edgeprune.backends.backend import Feeds
from edgeprune.bundle import Bundle, Variant
from edgeprune.errors import ConfigError, DataError, DeviceError, EdgePruneError
from edgeprune.judge import Judge
from edgeprune.measure.energy import WINDOW_S
from edgeprune.metrics import Interval, agreement, order_statistic_interval, snr_db, wilson
from edgeprune.progress import SILENT, Progress
from edgeprune.registry import resolve
from edgeprune.results import Accuracy, Energy, Environment, Layer, Measurement
from edgeprune.scenario import ALONE, BUILT_IN, Scenario
from edgeprune.targets.target import Target
from edgeprune.transport.transport import Transport
from edgeprune.worker.client import Client

T = TypeVar("T")
_Parts = dict[str, list[dict[str, NDArray[Any]]]]  # by variant: outputs by name, a part of the samples each

NO_DEVICE = "no device"
FLOAT_QDQ = {"graph_optimization": "disable"}
FLOAT_QDQ_SOURCE = "simulated (ONNX Runtime, graph optimization off, so that Q/DQ is computed in float)"
NOT_SIMULATED = {"bf16": "ONNX Runtime has no bfloat16 arithmetic on this host"}
NO_MARK = "peak memory may include what importing the runtime took for a moment: the mark could not be lowered"
WARM_SAMPLES = 8
"""Real inputs that are timed in turn."""
NO_ENERGY = "it is measured in single-stream by the built-in loop"
CLOCK = 0.1
"""Share by which it may change before a reader is warned."""
BUSY = 0.05
"""Share of the time without the processor from which a reader is warned."""


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


@dataclass
class _Found:
    """What is known of one variant so far."""

    variant: Variant
    is_baseline: bool
    unmeasured: str = ""
    failed: bool = False
    rounds: list[list[list[float]]] = field(default_factory=list)  # milliseconds: [restart][round][inference or query]
    samples_per_s: list[float] = field(default_factory=list)  # by restart, where LoadGen counts them
    driver: str = ""
    load_ms: list[float] = field(default_factory=list)
    compiled: list[tuple[float, bool]] = field(default_factory=list)  # milliseconds, and whether from a cache
    first_ms: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    device_bytes: list[int] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    energy: Energy = field(default_factory=lambda: Energy(None, None, "not measured"))
    layers: tuple[Layer, ...] = ()
    outputs: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)  # by split and name: [N, ...]
    source: str = "measured"
    warnings: list[str] = field(default_factory=list)

    def give_up(self, error: EdgePruneError) -> None:
        """Keep why, and forget the rest: half a measurement is none."""
        blank = _Found(self.variant, self.is_baseline, str(error), isinstance(error, DeviceError))
        vars(self).update(vars(blank))


def measure(
    bundle: Bundle,
    target: Target,
    splits: Sequence[EvalSplit],
    settings: Settings,
    *,
    transport: Transport,
    progress: Progress = SILENT,
) -> tuple[Measurement, tuple[Measurement, ...]]:
    """The baseline's measurement and one per variant, in the bundle's order.

    A target that is not local has no latency; its accuracy is simulated on this host. A variant whose runtime is
    missing or refuses the file, or whose worker dies or hangs, becomes a measurement that says so, and the others go
    on. Raises whatever the baseline's own worker raises, without which nothing can be compared, and DataError without
    splits, for the inputs that are timed come from them.
    """
    if not splits:
        raise DataError("no samples to measure with: give at least one split")
    found = [_Found(variant, i == 0) for i, variant in enumerate((bundle.core.baseline, *bundle.core.variants))]
    environment: Environment | None = None
    after: Environment | None = None
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        site = _Site(bundle, splits, settings, settings.threads or target.threads, transport, Path(folder))
        site.push([one.variant for one in found])
        if target.local:
            environment, after = _measure_here(site, target, found, progress)
        else:
            _simulate(site, found)
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    records = [_record(bundle, one, found[0], splits, settings, environment, at) for one in found]
    first, *others = [replace(record, environment_after=after) for record in records]
    return first, tuple(others)


def compare(
    reference: Sequence[Sequence[Sequence[float]]],
    candidate: Sequence[Sequence[Sequence[float]]],
    quantile: float = 0.5,
    confidence: float = 0.95,
) -> Interval | None:
    """How many times faster the candidate is, from milliseconds by [restart][round] of one interleaved run.

    A restart's ratio is the median over its rounds of the ratio of the two quantiles in that round. The estimate is the
    median of the restarts' ratios, with its order-statistic interval: where a process lies in memory stays with it
    through all its rounds, so the restarts are what is independent. None for too few: six make 95 %, eight 99 %.
    """
    ratios = [_ratio(a, b, quantile) for a, b in zip(reference, candidate, strict=True)]
    return order_statistic_interval(ratios, confidence=confidence)


def _ratio(reference: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]], quantile: float) -> float:
    rounds = zip(reference, candidate, strict=True)
    return float(np.median([np.quantile(a, quantile) / np.quantile(b, quantile) for a, b in rounds]))


@dataclass(frozen=True)
class _Site:
    """A device, reached through `transport`, that gets the bundle's files and the inputs."""

    bundle: Bundle
    splits: Sequence[EvalSplit]
    settings: Settings
    threads: int
    transport: Transport
    folder: Path

    def push(self, variants: Sequence[Variant]) -> None:
        for variant in variants:
            for role, path in self.bundle.files(variant).items():
                self.transport.push(path, variant.files[role])
        first = next(self.splits[0].batches())
        rows = max(WARM_SAMPLES, self.settings.scenario.batch)
        self.push_inputs({name: array[:rows] for name, array in first.items()}, self.inputs())

    @staticmethod
    def inputs(split: str = "") -> str:
        """Where a split's inputs lie there; without a name, those that are timed."""
        return f"inputs-{split}.npz"

    def client(self, name: str) -> Client:
        return Client(self.transport, name, timeout_s=self.settings.timeout_s)

    def pull_outputs(self, remote: str) -> dict[str, NDArray[Any]]:
        """The outputs [N, ...] by name that `predict` left."""
        local = self.folder / "outputs.npz"
        self.transport.pull(remote, local)
        with np.load(local, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def push_inputs(self, inputs: Mapping[str, Any], remote: str) -> None:
        local = self.folder / "inputs.npz"
        save_arrays(local, inputs)
        self.transport.push(local, remote)


def _measure_here(
    site: _Site, target: Target, found: list[_Found], progress: Progress
) -> tuple[Environment, Environment]:
    """Every restart in turn; what does not change from one to the next is asked for in the first."""
    settings, random = site.settings, np.random.default_rng(site.settings.seed)
    until, longest_s = monotonic() + settings.limit_s, 0.0
    with progress.task("measure", settings.restarts * settings.turns) as task:
        for restart in range(settings.restarts):
            begin = monotonic()
            if restart and begin + longest_s > until:
                for one in found:
                    one.warnings.append(f"{restart} of {settings.restarts} restarts: {settings.limit_s:g} s are over")
                break
            with ExitStack() as stack:
                running = _start(site, found, random, stack)
                if restart == 0:
                    environment = _environment(running[0][1], site.threads)
                for _ in range(settings.turns):
                    order = random.permutation(len(running))
                    _each([running[i] for i in order], partial(_slice if settings.built_in else _drive, settings))
                    task.advance(note=f"restart {restart + 1} of {settings.restarts}")
                _each(running, _remember)
                if restart == 0:
                    _each(running, partial(_explain, target, settings))
                    if settings.judged:
                        _predict(site, running)
                after = _environment(running[0][1], site.threads)
            longest_s = max(longest_s, monotonic() - begin)
    for one in found:
        one.warnings += _heat(environment, after)
    return environment, after


def _heat(before: Environment, after: Environment) -> Iterator[str]:
    """Whether the processor was not what it had been: it slows down where it gets too hot."""
    if before.throttled is not None and after.throttled is not None and after.throttled > before.throttled:
        yield f"throttled: the processor slowed down for heat {after.throttled - before.throttled} times meanwhile"
    if before.clock_mhz and after.clock_mhz and abs(after.clock_mhz / before.clock_mhz - 1) > CLOCK:
        yield f"the clock went from {before.clock_mhz:.0f} to {after.clock_mhz:.0f} MHz meanwhile"


def _start(
    site: _Site, found: Sequence[_Found], random: np.random.Generator, stack: ExitStack
) -> list[tuple[_Found, Client]]:
    """A worker for every variant that has not given up, warm where it can be opened.

    They are opened in an order of chance, for the first may get other memory than the last.
    """
    clients = [(one, stack.enter_context(site.client(one.variant.name))) for one in found if not one.unmeasured]
    _each(clients, lambda one, client: client.send("prepare", backend=one.variant.backend))
    _each(clients, lambda _, client: client.receive())
    _each([clients[i] for i in random.permutation(len(clients))], partial(_warm, site))
    return clients


def _each(running: Sequence[tuple[_Found, Client]], do: Callable[[_Found, Client], object]) -> None:
    """Have every variant do it that has not given up; what one cannot do is its record, and the others go on.

    Where it is the baseline, whatever it raises is raised.
    """
    for one, client in running:
        if one.unmeasured:
            continue
        try:
            do(one, client)
        except EdgePruneError as error:
            if one.is_baseline:
                raise
            one.give_up(error)


def _warm(site: _Site, one: _Found, client: Client) -> None:
    max_s = site.settings.warm_max_s
    opened = _open(one.variant, client, site.threads, site.settings.scenario.batch)
    warm = client.ask("warm", inputs=site.inputs(), min_s=site.settings.warm_min_s, max_s=max_s)
    one.load_ms.append(opened["load_ms"])
    if (compilation := opened.get("compilation")) is not None:
        one.compiled.append((compilation["ms"], compilation["cached"]))
    one.first_ms.append(warm["first_inference_ms"])
    one.rounds.append([])
    if not opened["mark_lowered"]:
        one.warnings.append(NO_MARK)
    if not warm["stable"]:
        one.warnings.append(f"latency had not settled after {max_s:g} s of warm-up")


def _open(variant: Variant, client: Client, threads: int, batch: int = 1) -> dict[str, Any]:
    return client.ask(
        "open", backend=variant.backend, files=variant.files, options=variant.options, threads=threads, batch=batch
    )


def _slice(settings: Settings, one: _Found, client: Client) -> None:
    seconds = settings.seconds / settings.rounds
    answer = client.ask("time", seconds=seconds, least=settings.least, most=settings.most)
    one.rounds[-1].append(answer["samples_ms"])
    one.cpu_s += answer["cpu_s"]
    one.wall_s += answer["wall_s"]


def _drive(settings: Settings, one: _Found, client: Client) -> None:
    scenario = settings.scenario
    answer = client.ask("drive", scenario=asdict(scenario), seconds=settings.seconds, queries=settings.queries)
    # offline, what takes a time is a sample in the mean
    one.rounds[-1].append(answer["latencies_ms"] if scenario.has_latency else [1e3 / answer["samples_per_s"]])
    one.samples_per_s.append(answer["samples_per_s"])
    one.driver = f"{scenario.driver} {answer['version']}"
    if answer["invalid"]:
        one.warnings.append(f"{scenario.driver} calls a test invalid: {' and '.join(answer['invalid'])}")


def _remember(one: _Found, client: Client) -> None:
    memory = client.ask("memory")
    one.peak_bytes.append(memory["peak_bytes"])
    if (held := memory.get("device_bytes")) is not None:
        one.device_bytes.append(held)


def _explain(target: Target, settings: Settings, one: _Found, client: Client) -> None:
    evidence = client.ask("evidence")["evidence"]
    one.layers = resolve(EFFECTIVE, one.variant.backend, "runtime")(evidence, one.variant.layers)
    if not settings.built_in or not settings.energy_s:
        one.energy = Energy(None, None, "not measured" if settings.built_in else NO_ENERGY)
        return
    one.energy = Energy(**client.ask("energy", meters=target.meters, seconds=settings.energy_s)["energy"])
    if one.energy.joules is not None and settings.energy_s < WINDOW_S:
        one.warnings.append(f"energy over {settings.energy_s:g} s: a reading wants {WINDOW_S:g} s at least")


def _predict(site: _Site, running: Sequence[tuple[_Found, Client]]) -> None:
    """Every split through every worker; they work at the same time, for nothing is timed here."""
    for split in site.splits:
        parts: _Parts = {one.variant.name: [] for one, _ in running}
        for feeds in split.batches():
            site.push_inputs(feeds, site.inputs(split.name))
            _each(running, partial(_ask_outputs, site, split.name))
            _each(running, partial(_take_outputs, site, parts))
        for one, _ in running:
            if not one.unmeasured:
                found = parts[one.variant.name]
                one.outputs[split.name] = {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _ask_outputs(site: _Site, split: str, one: _Found, client: Client) -> None:
    client.send("predict", inputs=site.inputs(split), out=_outputs(one))


def _take_outputs(site: _Site, parts: _Parts, one: _Found, client: Client) -> None:
    client.receive()
    parts[one.variant.name].append(site.pull_outputs(_outputs(one)))


def _outputs(one: _Found) -> str:
    return f"outputs-{one.variant.name}.npz"


def _simulate(site: _Site, found: Sequence[_Found]) -> None:
    """Predictions of a device that is not here, on this host."""
    with ExitStack() as stack:
        for one in found:
            one.source = FLOAT_QDQ_SOURCE
            one.unmeasured = NOT_SIMULATED.get(one.variant.precision, "")
        clients = [(one, stack.enter_context(site.client(one.variant.name))) for one in found if not one.unmeasured]
        _each(clients, partial(_stand_in, site))
        _predict(site, clients)
    for one in found:
        one.unmeasured = f"{NO_DEVICE}; accuracy not simulated: {one.unmeasured}" if one.unmeasured else NO_DEVICE


def _stand_in(site: _Site, one: _Found, client: Client) -> None:
    _open(replace(one.variant, backend="ort", options=FLOAT_QDQ), client, site.threads)


def _environment(client: Client, threads: int) -> Environment:
    found = client.ask("probe")["environment"]
    return Environment(**found | {"isa": tuple(found["isa"]), "threads": threads})


def _record(
    bundle: Bundle,
    one: _Found,
    baseline: _Found,
    splits: Sequence[EvalSplit],
    settings: Settings,
    environment: Environment | None,
    measured_at: str,
) -> Measurement:
    core, variant, scenario = bundle.core, one.variant, settings.scenario
    accuracy = [found for split in splits if split.name in one.outputs for found in _accuracy(split, one, baseline)]
    # how long a query waits depends on how many come: latencies under a load are no measure of speed
    timed = not one.unmeasured and one is not baseline and scenario.name != "server"
    return Measurement(
        bundle=bundle.sha256,
        model=core.model,
        target=core.target,
        variant=variant.name,
        backend=variant.backend,
        precision=variant.precision,
        size_bytes=bundle.size_bytes(variant),
        accuracy=tuple(accuracy),
        unproven=variant.unproven if one.unmeasured else "",
        unmeasured=one.unmeasured,
        failed=one.failed,
        environment=environment,
        scenario=replace(scenario, driver=one.driver) if one.samples_per_s else scenario,
        samples_per_s=tuple(one.samples_per_s),
        samples_ms=tuple(tuple(_flat(restart)) for restart in one.rounds) if scenario.has_latency else (),
        load_ms=tuple(one.load_ms),
        compile_ms=tuple(ms for ms, _ in one.compiled),
        compile_cached=tuple(cached for _, cached in one.compiled),
        first_inference_ms=tuple(one.first_ms),
        speedup=compare(baseline.rounds, one.rounds, settings.quantile, settings.confidence) if timed else None,
        peak_memory_bytes=max(one.peak_bytes, default=None),
        device_memory_bytes=max(one.device_bytes, default=None),
        loaded_bytes=bundle.loaded_bytes(variant),
        energy=one.energy,
        layers=one.layers,
        warnings=tuple(dict.fromkeys((*_unproven(one), *one.warnings, *_busy(one), *_signal(splits, one, baseline)))),
        measured_at=measured_at,
    )


def _flat(nested: Sequence[Sequence[T]]) -> list[T]:
    return [item for inner in nested for item in inner]


def _accuracy(split: EvalSplit, one: _Found, baseline: _Found) -> Iterator[Accuracy]:
    """Every metric with its paired drop; without labels agreement with the baseline, which has none with itself."""
    outputs, reference = one.outputs[split.name], baseline.outputs[split.name]
    if split.judge is None:
        if one is not baseline and (scores := _scores(outputs)) is not None:
            samples = len(outputs[scores])
            same = wilson(round(samples * agreement(reference[scores], outputs[scores])), samples)
            yield Accuracy("agreement", split.name, samples, same, None, one.source)
        return
    answers, before = split.judge.answers(outputs), split.judge.answers(reference)
    for metric in split.judge.metrics:
        drop = None if one is baseline else split.judge.drop(metric, before, answers)
        value = split.judge.value(metric, answers)
        yield Accuracy(metric.name, split.name, split.judge.samples, value, drop, one.source)


def _scores(outputs: Mapping[str, NDArray[Any]]) -> str | None:
    """The name of the first output that has several scores per sample."""
    return next((name for name, array in outputs.items() if array.ndim == 2 and array.shape[1] > 1), None)


def _unproven(one: _Found) -> Iterator[str]:
    if one.variant.unproven and one.unmeasured:
        yield f"unproven: {one.variant.unproven}"


def _busy(one: _Found) -> Iterator[str]:
    """The processor time a process got is told by its own clock; how long others waited before, is not."""
    if one.wall_s and (without := 1 - one.cpu_s / one.wall_s) > BUSY:
        yield f"busy machine: for {100 * without:.0f} % of the measured time the process had no processor"


def _signal(splits: Sequence[EvalSplit], one: _Found, baseline: _Found) -> Iterator[str]:
    for split in splits:
        if split.judge is None and split.name in one.outputs and one is not baseline:
            reference = baseline.outputs[split.name]
            found = {name: snr_db(reference[name], array) for name, array in one.outputs[split.name].items()}
            name = min(found, key=lambda name: found[name])
            of = f" of {name}, the worst of {len(found)} outputs" if len(found) > 1 else ""
            yield f"{split.name}: no labels; signal-to-noise ratio{of} against the baseline {found[name]:.1f} dB"
