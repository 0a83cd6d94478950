"""What every table says: a row of words and digits per variant, and the reason for each value that is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edgeprune.bundle import Core
from edgeprune.metrics import Interval
from edgeprune.results import MB, SAMPLES_FOR_PERCENTILE, Accuracy, Environment, Layer, Measured, Measurement

KB = 1000
ABSENT = "-"
DECIDING = "report"
"""The split whose accuracy a table shows; others stand apart."""
METRICS = {
    "top1": "top-1 accuracy",
    "f1": "F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "exact-match": "exact match",
    "span-f1": "F1 of words",
}
UNTRAINED = "accuracy: none, the weights are untrained; agreement is with what the FP32 baseline answers"


@dataclass(frozen=True)
class Cell:
    """One value as text, the bounds it lies between, and the number of the note that explains it (0: none)."""

    text: str = ""
    bounds: tuple[str, str] | None = None
    note: int = 0


@dataclass(frozen=True)
class Column:
    """A column's heading, its unit, and its values from the first row to the last."""

    title: str
    unit: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Summary:
    """A bundle's table, the baseline in the first row."""

    names: tuple[str, ...]
    roles: tuple[str, ...]
    """`unpruned` where the baseline is no variant, `baseline` where it is; `default`; or nothing."""
    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    """Note `i` is `notes[i - 1]`."""
    remarks: tuple[str, ...]
    """What a reader must know of a whole variant: a busy machine, an unstable warm-up."""


@dataclass(frozen=True)
class Fallback:
    """Layers of one variant that ran in the same other precision for the same reason."""

    variant: str
    layers: tuple[Layer, ...]

    def __str__(self) -> str:
        first = self.layers[0]
        names = ", ".join(layer.name for layer in self.layers)
        how = "in a precision it does not tell" if first.effective == "unknown" else f"in {first.effective}"
        reason = f": {first.reason}" if first.reason else ""
        return f"{self.variant} ran {names} {how}, not {first.intended}{reason}"


def summarize(measured: Measured, core: Core | None = None) -> Summary:
    """All variants of one bundle, one row each; `core` says what the measurements alone cannot (untrained weights)."""
    records = (measured.baseline, *measured.measurements)
    notes = _Notes()
    size, per_unit = ("MB", MB) if max(record.size_bytes for record in records) >= 10 * MB else ("kB", KB)
    time_unit, per_ms = unit_of_time(measured)
    columns = [
        *_accuracies([deciding(record) for record in records], notes),
        Column("size", size, tuple(map(Cell, aligned([record.size_bytes / per_unit for record in records])))),
        Column("p50", time_unit, _percentiles(records, 50.0, per_ms, notes)),
        Column("p99", time_unit, _percentiles(records, 99.0, per_ms, notes)),
        Column("speed-up", "", tuple(_speedup(record, notes) for record in records)),
        Column("memory", "MB", _memory(records, notes)),
        Column("energy", "mJ", _energy(records, notes)),
    ]
    untrained = [UNTRAINED] if core is not None and core.untrained else []
    warnings = [f"{record.variant}: {warning}" for record in records for warning in record.warnings]
    return Summary(
        tuple(record.variant for record in records),
        tuple(_role(record, measured) for record in records),
        tuple(columns),
        tuple(notes.texts),
        (*untrained, *warnings),
    )


def default(measured: Measured) -> Measurement | None:
    """The measurement of the default variant; None where there is no default."""
    return next((one for one in (measured.baseline, *measured.measurements) if one.variant == measured.default), None)


def deciding(record: Measurement) -> Accuracy | None:
    """The accuracy a table shows: the first metric's on the report split, else the first there is."""
    decide = (accuracy for accuracy in record.accuracy if accuracy.split == DECIDING)
    return next(decide, None) or next(iter(record.accuracy), None)


def judged_by(accuracy: Accuracy) -> str:
    """The split, and the metric where it is not the usual one."""
    return accuracy.split if accuracy.metric == "top1" else f"{accuracy.split}, {accuracy.metric}"


def apart(measured: Measured) -> tuple[tuple[str, Accuracy], ...]:
    """Variant and accuracy by every split and metric but the ones the table shows; `select` decided the default."""
    found = [
        (record.variant, accuracy)
        for record in (measured.baseline, *measured.measurements)
        for accuracy in record.accuracy
        if accuracy is not deciding(record)
    ]
    judges = list(dict.fromkeys(judged_by(accuracy) for _, accuracy in found))
    return tuple(sorted(found, key=lambda pair: judges.index(judged_by(pair[1]))))


def fallbacks(measured: Measured) -> tuple[Fallback, ...]:
    """Every layer that did not run as intended, those with one reason together."""
    groups: dict[tuple[str, str, str, str], list[Layer]] = {}
    for record in (measured.baseline, *measured.measurements):
        for layer in record.fallbacks:
            groups.setdefault((record.variant, layer.intended, layer.effective, layer.reason), []).append(layer)
    return tuple(Fallback(variant, tuple(layers)) for (variant, *_), layers in groups.items())


def headline(measured: Measured) -> str:
    """What came out, in one sentence."""
    chosen = default(measured)
    if chosen is None:
        return f"No default variant: {measured.default_reason}."
    told = []
    if chosen.speedup is not None:
        told.append(f"{ratio(chosen.speedup.estimate)} as fast")
    if chosen is not measured.baseline:
        told.append(f"{percent_of(chosen.size_bytes, measured.baseline.size_bytes)} of the size")
    accuracy = deciding(chosen)
    if accuracy is not None and accuracy.drop is not None:
        drop = accuracy.drop.estimate
        told.append(f"{points(abs(drop))} points {'gained' if drop < 0 else 'lost'}")
    beside = f": {', '.join(told)}, beside the FP32 baseline" if told else ""
    return f"{measured.default} is the default ({measured.default_reason}){beside}."


def subject(measured: Measured, core: Core | None = None) -> str:
    """What was measured, as a heading: the model, its data where they are known, and the target."""
    data = core.recipe.get("data", {}).get("name") if core is not None else None
    return f"{measured.baseline.model}{f' on {data}' if data else ''} for {measured.baseline.target}"


def conditions(measured: Measured) -> str:
    """Where, when and on how many samples, in one line."""
    first = measured.baseline
    told = []
    if accuracy := next(filter(None, map(deciding, (first, *measured.measurements))), None):
        told.append(
            f"{METRICS.get(accuracy.metric, accuracy.metric)}: {accuracy.split} split, {accuracy.samples:,} samples"
        )
    if environment := environment_of(measured):
        told.append(f"{environment.machine}, {environment.threads} thread{'s' * (environment.threads != 1)}")
    if environment and environment.emulated:
        told.append("emulated")
    if first.measured_at:
        told.append(first.measured_at[:16].replace("T", " ") + " UTC")
    return "; ".join(told)


def training(core: Core | None) -> str:
    """How long the weights were trained, in one line: recovery is training that the baseline has not had."""
    if core is None or core.untrained or "train" not in core.recipe:
        return ""
    comes_with = core.model.endswith(".onnx") or core.model.startswith("hf:")
    train, given = core.recipe["train"], core.recipe.get("weights") or comes_with
    before = "weights given" if given else f"trained {train['epochs']} epochs"
    if core.pruning.get("pruner", "none") == "none":
        return before
    again = train.get("recover_epochs")
    more = train["epochs"] if again is None else again
    taught = ", taught by the baseline" if train.get("distill") else ""
    return f"the baseline: {before}; the variants: then pruned, trained {more} more{taught}"


def environment_of(measured: Measured) -> Environment | None:
    """Where the bundle was measured; None where it was not."""
    records = (measured.baseline, *measured.measurements)
    return next((record.environment for record in records if record.environment is not None), None)


def unit_of_time(measured: Measured) -> tuple[str, float]:
    """The unit that this bundle's latencies are shown in, and how many of it make a millisecond."""
    records = (measured.baseline, *measured.measurements)
    slowest = max(record.percentile_ms(50) or 0.0 for record in records)
    return ("ms", 1.0) if slowest >= 1 else ("µs", 1000.0)


def aligned(values: Iterable[float | None]) -> list[str]:
    """Numbers of one column with as many decimals as the smallest needs for three digits, so that points line up.

    >>> aligned([0.0523, 1.25, None])
    ['0.0523', '1.2500', '-']
    """
    values = list(values)
    smallest = min((abs(value) for value in values if value), default=1.0)
    decimals = min(4, max(0, 2 - math.floor(math.log10(smallest))))
    return [ABSENT if value is None else f"{value:,.{decimals}f}" for value in values]


def percent(share: float) -> str:
    """A share as percent, without the sign."""
    return f"{100 * share:.1f}"


def points(drop: float) -> str:
    """A fraction of accuracy as points; zero carries no sign."""
    return f"{100 * drop + 0.0:.2f}".replace("-0.00", "0.00")


def ratio(value: float) -> str:
    """A ratio of latencies."""
    return f"{value:.2f}x"


def percent_of(part: float, whole: float) -> str:
    """A share in whole percent."""
    return f"{100 * part / whole:.0f} %"


@dataclass
class _Notes:
    """Reasons in the order they come up, each once."""

    texts: list[str] = field(default_factory=list)

    def keep(self, text: str) -> int:
        """The number of this note."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1

    def absent(self, reason: str) -> Cell:
        """A value that is not there, and why."""
        return Cell(ABSENT, note=self.keep(reason))


def _role(record: Measurement, measured: Measured) -> str:
    roles = ["unpruned" if record.variant == "baseline" else "baseline"] if record is measured.baseline else []
    return ", ".join(roles + ["default"] * (record.variant == measured.default))


def _accuracies(found: Sequence[Accuracy | None], notes: _Notes) -> list[Column]:
    """Accuracy and what was lost of it; without labels, agreement with the baseline, which loses nothing."""
    if any(one is not None and one.metric == "agreement" for one in found):
        return [Column("agreement", "%", tuple(_accuracy(one, notes) if one else Cell() for one in found))]
    missing = "accuracy not measured"
    metric = next((one.metric for one in found if one is not None), "top1")
    return [
        Column(
            "accuracy" if metric == "top1" else metric,
            "%",
            tuple(_accuracy(one, notes) if one else notes.absent(missing) for one in found),
        ),
        Column("drop", "points", tuple(_drop(one) if one else notes.absent(missing) for one in found)),
    ]


def _accuracy(accuracy: Accuracy, notes: _Notes) -> Cell:
    note = 0 if accuracy.source == "measured" else notes.keep(f"accuracy {accuracy.source}")
    return Cell(percent(accuracy.value.estimate), (percent(accuracy.value.low), percent(accuracy.value.high)), note)


def _drop(accuracy: Accuracy) -> Cell:
    drop = accuracy.drop
    return Cell(points(drop.estimate), (points(drop.low), points(drop.high))) if drop else Cell()


def _percentiles(records: Sequence[Measurement], q: float, per_ms: float, notes: _Notes) -> tuple[Cell, ...]:
    found = [record.percentile_ms(q) for record in records]
    texts = aligned([latency and latency * per_ms for latency in found])
    return tuple(_percentile(record, q, text, notes) for record, text in zip(records, texts, strict=True))


def _percentile(record: Measurement, q: float, text: str, notes: _Notes) -> Cell:
    if text != ABSENT:
        return Cell(text)
    if not record.samples:
        return notes.absent(_untimed(record))
    needed = SAMPLES_FOR_PERCENTILE[q]
    return Cell(f"n<{needed}", note=notes.keep(f"p{q:g} needs {needed} timed runs"))


def _untimed(record: Measurement) -> str:
    return f"not measured: {record.unmeasured or 'no run was timed'}"


def _speedup(record: Measurement, notes: _Notes) -> Cell:
    speedup: Interval | None = record.speedup
    if speedup is not None:
        return Cell(ratio(speedup.estimate), (f"{speedup.low:.2f}", f"{speedup.high:.2f}"))
    return notes.absent(_untimed(record)) if record.unmeasured else Cell()


def _memory(records: Sequence[Measurement], notes: _Notes) -> tuple[Cell, ...]:
    texts = aligned([record.peak_memory_bytes and record.peak_memory_bytes / MB for record in records])
    return tuple(
        notes.absent(_untimed(record) if record.unmeasured else "peak memory: the system does not tell it")
        if record.peak_memory_bytes is None
        else Cell(text)
        for record, text in zip(records, texts, strict=True)
    )


def _energy(records: Sequence[Measurement], notes: _Notes) -> tuple[Cell, ...]:
    texts = aligned([record.energy.joules and 1000 * record.energy.joules for record in records])
    return tuple(
        notes.absent(_untimed(record) if record.unmeasured else f"energy unavailable: {record.energy.reason}")
        if record.energy.joules is None
        else Cell(text)
        for record, text in zip(records, texts, strict=True)
    )
