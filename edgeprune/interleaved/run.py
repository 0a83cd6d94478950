"""The run: restarts, and in each of them turns."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from time import monotonic

import numpy as np

from edgeprune.backends import EFFECTIVE
from edgeprune.bundle import Bundle
from edgeprune.errors import DataError
from edgeprune.interleaved.found import Found
from edgeprune.interleaved.predict import predict, simulate
from edgeprune.interleaved.record import record
from edgeprune.interleaved.settings import EvalSplit, Settings
from edgeprune.interleaved.site import Site, each, open_variant
from edgeprune.measure.energy import WINDOW_S
from edgeprune.progress import SILENT, Progress
from edgeprune.registry import resolve
from edgeprune.results import Energy, Environment, Measurement
from edgeprune.targets.target import Target
from edgeprune.transport.transport import Transport
from edgeprune.worker.client import Client

NO_MARK = "peak memory may include what importing the runtime took for a moment: the mark could not be lowered"
NO_ENERGY = "it is measured in single-stream by the built-in loop"
CLOCK = 0.1
"""Share by which it may change before a reader is warned."""


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
    found = [Found(variant, i == 0) for i, variant in enumerate((bundle.core.baseline, *bundle.core.variants))]
    environment: Environment | None = None
    after: Environment | None = None
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        site = Site(bundle, splits, settings, settings.threads or target.threads, transport, Path(folder))
        site.push([one.variant for one in found])
        if target.local:
            environment, after = _measure_here(site, target, found, progress)
        else:
            simulate(site, found)
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    made = [record(bundle, one, found[0], splits, settings, environment, at) for one in found]
    first, *others = [replace(one, environment_after=after) for one in made]
    return first, tuple(others)


def _measure_here(
    site: Site, target: Target, found: list[Found], progress: Progress
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
                    each([running[i] for i in order], partial(_slice if settings.built_in else _drive, settings))
                    task.advance(note=f"restart {restart + 1} of {settings.restarts}")
                each(running, _remember)
                if restart == 0:
                    each(running, partial(_explain, target, settings))
                    if settings.judged:
                        predict(site, running)
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
    site: Site, found: Sequence[Found], random: np.random.Generator, stack: ExitStack
) -> list[tuple[Found, Client]]:
    """A worker for every variant that has not given up, warm where it can be opened.

    They are opened in an order of chance, for the first may get other memory than the last.
    """
    clients = [(one, stack.enter_context(site.client(one.variant.name))) for one in found if not one.unmeasured]
    each(clients, lambda one, client: client.send("prepare", backend=one.variant.backend))
    each(clients, lambda _, client: client.receive())
    each([clients[i] for i in random.permutation(len(clients))], partial(_warm, site))
    return clients


def _warm(site: Site, one: Found, client: Client) -> None:
    max_s = site.settings.warm_max_s
    opened = open_variant(one.variant, client, site.threads, site.settings.scenario.batch)
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


def _slice(settings: Settings, one: Found, client: Client) -> None:
    seconds = settings.seconds / settings.rounds
    answer = client.ask("time", seconds=seconds, least=settings.least, most=settings.most)
    one.rounds[-1].append(answer["samples_ms"])
    one.cpu_s += answer["cpu_s"]
    one.wall_s += answer["wall_s"]


def _drive(settings: Settings, one: Found, client: Client) -> None:
    scenario = settings.scenario
    answer = client.ask("drive", scenario=asdict(scenario), seconds=settings.seconds, queries=settings.queries)
    # offline, what takes a time is a sample in the mean
    one.rounds[-1].append(answer["latencies_ms"] if scenario.has_latency else [1e3 / answer["samples_per_s"]])
    one.samples_per_s.append(answer["samples_per_s"])
    one.driver = f"{scenario.driver} {answer['version']}"
    if answer["invalid"]:
        one.warnings.append(f"{scenario.driver} calls a test invalid: {' and '.join(answer['invalid'])}")


def _remember(one: Found, client: Client) -> None:
    memory = client.ask("memory")
    one.peak_bytes.append(memory["peak_bytes"])
    if (held := memory.get("device_bytes")) is not None:
        one.device_bytes.append(held)


def _explain(target: Target, settings: Settings, one: Found, client: Client) -> None:
    evidence = client.ask("evidence")["evidence"]
    one.layers = resolve(EFFECTIVE, one.variant.backend, "runtime")(evidence, one.variant.layers)
    if not settings.built_in or not settings.energy_s:
        one.energy = Energy(None, None, "not measured" if settings.built_in else NO_ENERGY)
        return
    one.energy = Energy(**client.ask("energy", meters=target.meters, seconds=settings.energy_s)["energy"])
    if one.energy.joules is not None and settings.energy_s < WINDOW_S:
        one.warnings.append(f"energy over {settings.energy_s:g} s: a reading wants {WINDOW_S:g} s at least")


def _environment(client: Client, threads: int) -> Environment:
    found = client.ask("probe")["environment"]
    return Environment(**found | {"isa": tuple(found["isa"]), "threads": threads})
