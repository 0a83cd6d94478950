"""What was found out about a variant as a Measurement: its speed and its accuracy beside the baseline's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from numpy.typing import NDArray

from edgeprune.bundle import Bundle
from edgeprune.interleaved.found import Found
from edgeprune.interleaved.settings import EvalSplit, Settings
from edgeprune.interleaved.speedup import compare
from edgeprune.metrics import agreement, snr_db, wilson
from edgeprune.results import Accuracy, Environment, Measurement

T = TypeVar("T")
BUSY = 0.05
"""Share of the time without the processor from which a reader is warned."""


def record(
    bundle: Bundle,
    one: Found,
    baseline: Found,
    splits: Sequence[EvalSplit],
    settings: Settings,
    environment: Environment | None,
    measured_at: str,
) -> Measurement:
    """All that is known of one variant of a bundle; `environment` is None where the device was not here."""
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


def _accuracy(split: EvalSplit, one: Found, baseline: Found) -> Iterator[Accuracy]:
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


def _unproven(one: Found) -> Iterator[str]:
    if one.variant.unproven and one.unmeasured:
        yield f"unproven: {one.variant.unproven}"


def _busy(one: Found) -> Iterator[str]:
    """The processor time a process got is told by its own clock; how long others waited before, is not."""
    if one.wall_s and (without := 1 - one.cpu_s / one.wall_s) > BUSY:
        yield f"busy machine: for {100 * without:.0f} % of the measured time the process had no processor"


def _signal(splits: Sequence[EvalSplit], one: Found, baseline: Found) -> Iterator[str]:
    for split in splits:
        if split.judge is None and split.name in one.outputs and one is not baseline:
            reference = baseline.outputs[split.name]
            found = {name: snr_db(reference[name], array) for name, array in one.outputs[split.name].items()}
            name = min(found, key=lambda name: found[name])
            of = f" of {name}, the worst of {len(found)} outputs" if len(found) > 1 else ""
            yield f"{split.name}: no labels; signal-to-noise ratio{of} against the baseline {found[name]:.1f} dB"
