"""Measure a bundle on a device that is ours: it checks itself, then every variant takes turns with the baseline."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.arrays import save_arrays
from edgeprune.backends.backend import Feeds
from edgeprune.bundle import CORE, Bundle, Variant
from edgeprune.choose import choose_default
from edgeprune.errors import DeviceError, EdgePruneError
from edgeprune.interleaved.run import measure
from edgeprune.interleaved.settings import EvalSplit, Settings
from edgeprune.lab.inventory import Instance
from edgeprune.pipeline.measure import evaluation, first_of, same_splits
from edgeprune.pipeline.places import located_data, located_metric
from edgeprune.progress import SILENT, Progress
from edgeprune.recipe import Recipe, read_yaml, validated
from edgeprune.report.contents import measured_of
from edgeprune.results import EMULATED, SIMULATED, Accuracy, Energy, Measured, Measurement
from edgeprune.targets.target import Target
from edgeprune.transport.transport import Transport
from edgeprune.worker.client import Client

SAMPLES, CHECK = "samples.npz", "check"
FLOAT_DB, QUANTIZED_DB = 40.0, 6.0
"""Least distance of what a device answers from the float graph: float may add in another order, and quantized may be
wrong by half of what it says; below that it is another network.
"""
ON_HOST = "measured on the host"
UNTIMED: dict[str, Any] = {
    "restarts": 1, "seconds": 1e-3, "rounds": 1, "least": 1, "most": 1, "warm_min_s": 0.0, "warm_max_s": 1e-3,
    "energy_s": 0.0,
}  # fmt: skip
"""Settings where no time says anything, for what is left to be found out."""


@dataclass(frozen=True)
class Checked:
    """What a device answered to the samples of a bundle."""

    emulated: bool
    """Whether it says that its instructions are translated."""
    faults: dict[str, str]
    """By variant, what is wrong with its answers."""
    warnings: dict[str, str]


def check_itself(bundle: Bundle, way: Transport, evidence: Path, *, threads: int, timeout_s: float) -> Checked:
    """Have the device answer the bundle's samples with every variant; its answers come back into `evidence`.

    Raises DeviceError where the baseline's are wrong: then nothing there can be relied on. A variant that cannot be
    opened is no fault: measuring it says why.
    """
    way.push(bundle.root / SAMPLES, SAMPLES)
    client: Client | None = None
    try:
        client = Client(way, "self-check", timeout_s=timeout_s)
        checked = Checked(bool(client.ask("probe")["environment"]["emulated"]), {}, {})
        for variant in _every(bundle):
            for role, path in bundle.files(variant).items():
                way.push(path, variant.files[role])
            client = client or Client(way, variant.name, timeout_s=timeout_s)
            try:
                _judge(_asked(client, variant, threads), variant, checked)
            except EdgePruneError as error:
                if variant is bundle.core.baseline:
                    raise
                if isinstance(error, DeviceError):  # it died, and the next variant gets another
                    client.close()
                    client = None
    finally:
        if client is not None:
            client.close()
    if fault := checked.faults.get(bundle.core.baseline.name):
        raise DeviceError(f"{bundle.core.baseline.name}: {fault}")
    way.pull_folder(CHECK, evidence)
    return checked


def _every(bundle: Bundle) -> list[Variant]:
    return list({one.name: one for one in (bundle.core.baseline, *bundle.core.variants)}.values())


def _asked(client: Client, variant: Variant, threads: int) -> dict[str, object]:
    client.ask("open", backend=variant.backend, files=variant.files, options=variant.options, threads=threads, batch=1)
    return client.ask("check", samples=SAMPLES, out=f"{CHECK}/{variant.name}.npz")


def _judge(answer: dict[str, object], variant: Variant, checked: Checked) -> None:
    """Compare with the float graph of the bundle; a baseline that is no variant is another network, the unpruned."""
    distances, least = answer["snr_db"], FLOAT_DB if variant.precision == "fp32" else QUANTIZED_DB
    assert isinstance(distances, dict)
    snr_db = min(distances.values(), default=0.0)
    if answer["finite"] is not True:
        checked.faults[variant.name] = "self-check: it answers with what is no number"
    elif variant.name != "baseline" and snr_db < least:
        found = checked.faults if variant.precision == "fp32" else checked.warnings
        found[variant.name] = (
            f"self-check: its answers are {snr_db:.0f} dB from the float graph's, {least:.0f} expected"
        )


def measure_on(
    instance: Instance,
    bundle: Bundle,
    way: Transport,
    settings: Settings,
    *,
    evidence: Path,
    split: EvalSplit | None = None,
    progress: Progress = SILENT,
) -> Measured:
    """All that a device says of a bundle.

    With `split` it answers those samples itself; without, accuracy is the host's, where the bundle has been measured,
    and says so. Where the device is emulated, nothing is said of time, memory and energy.
    """
    target = read_yaml(bundle.root / "target.yaml", Target).model_copy(update={"local": True})
    threads = settings.threads or target.threads
    checked = check_itself(bundle, way, evidence, threads=threads, timeout_s=settings.timeout_s)
    splits = [split] if split is not None else [EvalSplit("samples", lambda: _samples(bundle), None)]
    if checked.emulated or instance.device.emulated:
        settings = replace(settings, **UNTIMED)
    settings = replace(settings, judged=split is not None)
    records = measure(bundle, target, splits, settings, transport=way, progress=progress)
    baseline, *found = (_told(instance, one, checked) for one in (records[0], *records[1]))
    baseline, *found = _judged_by_host(bundle, (baseline, *found))
    recipe = validated(Recipe, bundle.core.recipe, str(bundle.root / CORE))
    return choose_default(baseline, tuple(found), recipe.budgets)


def _samples(bundle: Bundle) -> Iterator[Feeds]:
    with np.load(bundle.root / SAMPLES, allow_pickle=False) as file:
        yield {spec.name: file[spec.name] for spec in bundle.core.inputs}


def _told(instance: Instance, record: Measurement, checked: Checked) -> Measurement:
    """With what the self-check found, and without what an emulator makes up."""
    if fault := checked.faults.get(record.variant):
        record = replace(record, unmeasured=fault, failed=True, samples_ms=(), speedup=None, accuracy=())
    if warning := checked.warnings.get(record.variant):
        record = replace(record, warnings=(*record.warnings, warning))
    environment = record.environment
    if environment is None or record.unmeasured or not (environment.emulated or instance.device.emulated):
        return record
    how = SIMULATED if instance.device.transport == "simulated" else EMULATED
    return replace(
        record,
        unmeasured=how,
        environment=replace(environment, emulated=True),
        samples_ms=(),
        load_ms=(),
        compile_ms=(),
        compile_cached=(),
        first_inference_ms=(),
        speedup=None,
        peak_memory_bytes=None,
        device_memory_bytes=None,
        energy=Energy(None, None, how),
        warnings=(),
    )


def _judged_by_host(bundle: Bundle, records: Sequence[Measurement]) -> list[Measurement]:
    """With the accuracy on the splits that the device has not answered, where the host has measured the bundle."""
    if (measured := measured_of(bundle)) is None:
        return list(records)
    known = {one.variant: one.accuracy for one in (measured.baseline, *measured.measurements)}
    told = []
    for record in records:
        answered = {accuracy.split for accuracy in record.accuracy}
        others = (one for one in known.get(record.variant, ()) if one.split not in answered)
        told.append(replace(record, accuracy=(*record.accuracy, *map(_by_host, others))))
    return told


def _by_host(accuracy: Accuracy) -> Accuracy:
    return replace(accuracy, source=ON_HOST if accuracy.source == "measured" else accuracy.source)


class EvaluationSet:
    """The first samples of a bundle's report split, as the model takes them, in files that every device is sent.

    Equal samples are equal files, so a device is sent them once. Raises what `same_splits` raises.
    """

    def __init__(self, bundle: Bundle, count: int, data: str | None = None, metric: str | None = None) -> None:
        part = located_data(bundle, data).model_copy(update={"metric": located_metric(bundle, metric)})
        splits = same_splits(bundle, part)
        whole = evaluation(bundle, first_of(splits, "report", count), "report")
        self._folder = tempfile.TemporaryDirectory(prefix="edgeprune-eval-")
        self._parts = []
        for number, feeds in enumerate(whole.batches()):
            path = Path(self._folder.name) / f"{number}.npz"
            save_arrays(path, feeds)
            self._parts.append(path)
        self.split = EvalSplit("report", self._batches, whole.judge)

    def _batches(self) -> Iterator[Feeds]:
        for path in self._parts:
            with np.load(path, allow_pickle=False) as file:
                yield {name: file[name] for name in file.files}
