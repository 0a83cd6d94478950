"""Many devices at once, one job at a time on each: each ends in the journal, measured or with the reason why not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeprune.bundle import Bundle
from edgeprune.errors import DeviceError, EdgePruneError, InputError
from edgeprune.interleaved.settings import EvalSplit, Settings
from edgeprune.lab.connect import DEVICES, held, limited, said, transport
from edgeprune.lab.inventory import Instance
from edgeprune.lab.journal import DONE, FAILED, Job, Journal
from edgeprune.lab.lease import Lease
from edgeprune.lab.measure import measure_on
from edgeprune.lab.power import power_cycle
from edgeprune.progress import SILENT, Progress, Task
from edgeprune.results import Measured
from edgeprune.transport.transport import Transport

_log = logging.getLogger(__name__)

MOST_BACKOFF_S = 120.0
COOLING_S = 5.0
MOST_COOLING_S = 900.0
EVIDENCE = "evidence"
SENSELESS = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What it comes to when answers hold other things than a worker's do."""


@dataclass(frozen=True)
class CollectSettings:
    """How a collection goes about it."""

    measure: Settings = field(default_factory=Settings)
    at_once: int = 32
    """Devices."""
    limit_s: float = 1800.0
    """For one job, from its first command."""
    wait_s: float = 3600.0
    """For a device that another collector has."""
    attempts: int = 3
    backoff_s: float = 5.0
    """Before the second attempt; twice as long before each further one."""


class Measure(Protocol):
    """What is done with a bundle on a device that is ours."""

    def __call__(
        self,
        instance: Instance,
        bundle: Bundle,
        way: Transport,
        settings: Settings,
        *,
        evidence: Path,
        split: EvalSplit | None,
        progress: Progress,
    ) -> Measured:
        """Measure it."""
        ...


def planned(instances: Sequence[Instance], bundles: Sequence[Bundle]) -> list[Job]:
    """Every bundle on every device of the type that it is for.

    Raises InputError for a bundle that is for none of them, or is there twice.
    """
    jobs = []
    for bundle in bundles:
        found = [one for one in instances if one.target.name == bundle.core.target]
        if not found:
            types = ", ".join(sorted({one.target.name for one in instances}))
            raise InputError(f"{bundle.root}: is for {bundle.core.target}, but the devices that were named are {types}")
        name = bundle.root.resolve().name
        jobs += [Job(one.name, one.target.name, bundle.sha256, name) for one in found]
    seen: set[tuple[str, str]] = set()
    for job in jobs:
        for key in (job.bundle, job.name):
            if (job.device, key) in seen:
                raise InputError(f"{job.name}: two bundles are the same, or their folders have one name: give it once")
            seen.add((job.device, key))
    return jobs


@dataclass
class Collector:
    """All that a run needs; `sleep` and `measure` can be others in tests."""

    journal: Journal
    out: Path
    """Where evidence goes, and devices that lie in this machine."""
    settings: CollectSettings
    bundles: dict[str, Bundle]
    """By hash."""
    splits: dict[str, EvalSplit] = field(default_factory=dict)
    """By the bundle's hash: what devices are judged by."""
    progress: Progress = SILENT
    measure: Measure = measure_on
    sleep: Callable[[float], None] | None = None

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._open: set[Transport] = set()
        self._lock = threading.Lock()

    def collect(self, run: int, instances: Sequence[Instance]) -> None:
        """Do what is left of a run. Whatever stops us, devices are let go of, and the same run can go on later."""
        left: dict[str, list[Job]] = {}
        for record in self.journal.records(run=run):
            if record.state not in (DONE, FAILED):
                left.setdefault(record.job.device, []).append(record.job)
        pool = ThreadPoolExecutor(max(1, min(self.settings.at_once, len(left))), "lab")
        try:
            named = {one.name: one for one in instances}
            futures = [pool.submit(self._device, run, named[name], jobs) for name, jobs in left.items()]
            for future in as_completed(futures):
                future.result()
            self.journal.end(run)
        finally:
            self._stopping.set()
            with self._lock:
                ways = list(self._open)
            for way in ways:
                way.close()
            pool.shutdown(wait=True, cancel_futures=True)

    def _device(self, run: int, instance: Instance, jobs: Sequence[Job]) -> None:
        """All jobs of one device."""
        reachable = True
        with ExitStack() as stack, self.progress.task(instance.name, len(jobs)) as task:
            visit = _Visit(self, instance, stack)
            for number, job in enumerate(jobs):
                if self._stopping.is_set():
                    return
                if number:
                    self._rest(instance.device.cool_down_s)
                reachable = self._job(run, visit, job, attempts=self.settings.attempts if reachable else 1, task=task)

    def _job(self, run: int, visit: _Visit, job: Job, *, attempts: int, task: Task) -> bool:
        """One job, as often as it takes; false where the device fails."""
        began = time.monotonic()
        for attempt in range(1, attempts + 1):
            if not self.journal.start(run, job):
                return True  # done meanwhile
            try:
                measured = visit.measure(job, task)
                self.journal.finish(run, job, measured, time.monotonic() - began)
            except EdgePruneError as error:
                visit.leave()
                if self._stopping.is_set():
                    return False  # it was us
                passing = isinstance(error, DeviceError)
                if passing and attempt < attempts:
                    self.progress.say(f"{job.device}: {job.name}: {error}; trying again")
                    self._before_attempt(attempt + 1, attempts, visit.instance)
                    continue
                self.journal.fail(run, job, str(error), time.monotonic() - began)
                self.progress.say(f"{job.device}: {job.name}: failed: {error}")
                task.advance(note=f"{job.name}: failed")
                return not passing
            seconds = time.monotonic() - began
            self.progress.say(f"{job.device}: {job.name}: measured in {seconds:.1f} s")
            task.advance(note=f"{job.name}: measured")
            return True
        return False

    def _before_attempt(self, attempt: int, attempts: int, instance: Instance) -> None:
        device = instance.device
        if attempt == attempts and device.power_cycle:
            with suppress(DeviceError):  # told, and tried all the same
                power_cycle(device, self.progress)
                self._rest(device.boot_s)
        self._rest(min(MOST_BACKOFF_S, self.settings.backoff_s * 2 ** (attempt - 2)))

    def _rest(self, seconds: float) -> None:
        """Wait, but no longer than until we are stopped."""
        if seconds <= 0:
            return
        if self.sleep is not None:
            self.sleep(seconds)
        else:
            self._stopping.wait(seconds)

    @contextmanager
    def _known(self, way: Transport) -> Iterator[None]:
        """While it is open, it is closed where we are stopped."""
        with self._lock:
            self._open.add(way)
        try:
            if self._stopping.is_set():
                raise DeviceError("stopped")
            yield
        finally:
            with self._lock:
                self._open.discard(way)


class _Visit:
    """Holds a device from its first job to its last, and comes back after it was lost."""

    def __init__(self, collector: Collector, instance: Instance, stack: ExitStack) -> None:
        self.instance = instance
        self._collector, self._stack = collector, stack
        self._here: tuple[Transport, Lease] | None = None

    def measure(self, job: Job, task: Task) -> Measured:
        """One job on the device."""
        collector, settings = self._collector, self._collector.settings
        if self._here is None:
            self._here = self._come(task)
            way, _ = self._here
        else:
            way, lease = self._here
            lease.clear()
        bundle = collector.bundles[job.bundle]
        with limited(way, job.device, settings.limit_s):
            self._cool(way)
            try:
                return collector.measure(
                    self.instance,
                    bundle,
                    way,
                    settings.measure,
                    evidence=collector.out / EVIDENCE / job.device / job.name,
                    split=collector.splits.get(job.bundle),
                    progress=Noted(task),
                )
            except SENSELESS as error:
                _log.debug("raised here:", exc_info=error)
                told = f"{type(error).__name__}: {error}"
                raise DeviceError(f"{job.device}: what it answered makes no sense ({told})") from error

    def leave(self) -> None:
        """Let go of it; what runs there ends."""
        self._here = None
        with suppress(DeviceError):
            self._stack.close()

    def _come(self, task: Task) -> tuple[Transport, Lease]:
        collector, instance = self._collector, self.instance

        def waiting(reason: str) -> None:
            collector.progress.say(f"{instance.name}: {reason}")
            task.advance(0, reason)

        way = transport(instance.device, collector.out / DEVICES)
        self._stack.enter_context(collector._known(way))
        wait_s = collector.settings.wait_s
        return way, self._stack.enter_context(held(instance, way, wait_s=wait_s, waiting=waiting))

    def _cool(self, way: Transport) -> None:
        """Wait until it is cool enough; not without end, for a sensor may stand still."""
        below = self.instance.device.cool_below_c
        deadline = time.monotonic() + MOST_COOLING_S
        while below is not None and time.monotonic() < deadline:
            found = said(self.instance, way, ["-m", "edgeprune.worker.health"])["environment"]["temperature_c"]
            if found is None or found < below:
                return
            self._collector._rest(COOLING_S)


class Noted:
    """Progress of what is done on one device, as the note behind that device's own."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Task]:
        """A task whose notes are the device's."""
        yield _Note(self._task)

    def say(self, text: str) -> None:
        """Show it behind the device."""
        self._task.advance(0, text)


@dataclass(frozen=True)
class _Note:
    device: Task

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.device.advance(0, note)
