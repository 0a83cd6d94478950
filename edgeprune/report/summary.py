"""What every table says: a row of words and digits per variant, and the reason for each value that is missing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from edgeprune.bundle import Core
from edgeprune.energy_estimate import SOURCE
from edgeprune.metrics import Interval
from edgeprune.recipe import WHILE_TRAINING
from edgeprune.results import (
    EMULATED,
    MB,
    SAMPLES_FOR_PERCENTILE,
    SIMULATED,
    Accuracy,
    Environment,
    Layer,
    Measured,
    Measurement,
)
from edgeprune.scenario import ALONE, BUILT_IN

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
UNPACKED = 1.05
"""From which multiple of its size on disk it is told what a variant is once it is opened."""
NUMBER = re.compile(r"\d+(?:\.\d+)?")
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
    beside: bool = False
    """Whether a terminal, which has no room for all, tells it in a line of its own."""


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
    size, per_unit = unit_of_size([record.size_bytes for record in records])
    time_unit, per_ms = unit_of_time(measured)
    judged = measured.baseline.scenario.driver == BUILT_IN
    columns = [
        *(_accuracies([deciding(record) for record in records], notes) if judged else []),
        Column("size", size, _size(records, size, per_unit, notes)),
        *_times(records, time_unit, per_ms, notes),
        Column("speed-up", "", tuple(_speedup(record, notes) for record in records)),
        Column("memory", "MB", _memory(records, notes)),
        *([Column("energy", "mJ", _energy(records, notes))] if judged else []),
        *_estimates(records, notes),
    ]
    untrained = [UNTRAINED] if core is not None and core.untrained else []
    return Summary(
        tuple(record.variant for record in records),
        tuple(_role(record, measured) for record in records),
        tuple(columns),
        tuple(notes.texts),
        (*untrained, *_faults(records), *_warnings(records)),
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


def limits(measured: Measured) -> str:
    """How much of what this machine can do at most each variant reaches, in one line; empty where that is not known."""
    told = [
        f"{record.variant} {percent_of(share, 1)} ({record.limit.bound})"
        for record in (measured.baseline, *measured.measurements)
        if (share := record.limit_share) is not None and record.limit is not None
    ]
    return f"of this machine's limit: {', '.join(told)}" if told else ""


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
    if first.scenario != ALONE:
        told.append(str(first.scenario))
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
    if core.pruning["pruner"] in WHILE_TRAINING:
        return (
            f"the baseline: {before}; the variants: trained {more} epochs{' on them' * given}, pruned meanwhile{taught}"
        )
    return f"the baseline: {before}; the variants: then pruned, trained {more} more{taught}"


def environment_of(measured: Measured) -> Environment | None:
    """Where the bundle was measured; None where it was not."""
    records = (measured.baseline, *measured.measurements)
    return next((record.environment for record in records if record.environment is not None), None)


def unit_of_time(measured: Measured) -> tuple[str, float]:
    """The unit that this bundle's latencies are shown in, and how many of it make a millisecond."""
    records = (measured.baseline, *measured.measurements)
    slowest = max(record.percentile_ms(50) or _foretold_ms(record) or 0.0 for record in records)
    return ("ms", 1.0) if slowest >= 1 else ("µs", 1000.0)


def unit_of_size(sizes_bytes: Iterable[int]) -> tuple[str, int]:
    """The unit that sizes beside each other are shown in, and its bytes."""
    return ("MB", MB) if max(sizes_bytes) >= 10 * MB else ("kB", KB)


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
    loads = [record.scenario.name] * (record.scenario != ALONE)
    return ", ".join(roles + ["default"] * (record.variant == measured.default) + loads)


def _faults(records: Sequence[Measurement]) -> Iterator[str]:
    """Variants that compute something else than the float graph."""
    return (f"{one.variant}: {one.parity.fault}" for one in records if one.parity is not None and one.parity.fault)


def _warnings(records: Sequence[Measurement]) -> Iterator[str]:
    """Warnings that differ in their numbers only are one, from the least number to the greatest."""
    alike: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for record in records:
        for warning in record.warnings:
            alike.setdefault(tuple(NUMBER.split(warning)), []).append((record.variant, warning))
    for words, found in alike.items():
        each = zip(*(map(float, NUMBER.findall(warning)) for _, warning in found), strict=True)
        ranges = [f"{min(one):g}" if min(one) == max(one) else f"{min(one):g} to {max(one):g}" for one in each]
        text = "".join(word + number for word, number in zip(words, [*ranges, ""], strict=True))
        every = len(found) == len(records) > 1
        yield f"{'all variants' if every else ', '.join(variant for variant, _ in found)}: {text}"


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


def _estimates(records: Sequence[Measurement], notes: _Notes) -> Iterator[Column]:
    """What energy should be, apart from what was measured; no column where nothing is known."""
    joules = [record.estimated_joules for record in records]
    if not any(joules):
        return
    unit, per_j = ("mJ", 1e3) if max(filter(None, joules)) >= 1e-3 else ("µJ", 1e6)
    texts, note = aligned([value and per_j * value for value in joules]), notes.keep(f"est. energy: {SOURCE}")
    cells = tuple(Cell(text, note=note * (text != ABSENT)) for text in texts)
    yield Column("est. energy", unit, cells, beside=True)


def _times(records: Sequence[Measurement], unit: str, per_ms: float, notes: _Notes) -> Iterator[Column]:
    """What the scenario is judged by: latencies, which of them came too late, or what is done in a second."""
    scenario = records[0].scenario
    if not scenario.has_latency:
        found = [record.throughput for record in records]
        cells = zip(records, found, aligned(found), strict=True)
        yield Column(
            "throughput",
            "1/s",
            tuple(notes.absent(_untimed(one)) if number is None else Cell(text) for one, number, text in cells),
        )
        return
    for q in (50.0, 99.0):
        yield Column(f"p{q:g}", unit, _percentiles(records, q, per_ms, notes))
    if scenario.deadline_ms is not None:
        lates = [record.late for record in records]
        yield Column("late", "%", tuple(Cell(ABSENT if late is None else percent(late)) for late in lates))


def _percentiles(records: Sequence[Measurement], q: float, per_ms: float, notes: _Notes) -> tuple[Cell, ...]:
    found = [record.percentile_ms(q) for record in records]
    if q == 50:
        found = [_foretold_ms(one) if ms is None else ms for one, ms in zip(records, found, strict=True)]
    texts = aligned([latency and latency * per_ms for latency in found])
    return tuple(_percentile(record, q, text, notes) for record, text in zip(records, texts, strict=True))


def _percentile(record: Measurement, q: float, text: str, notes: _Notes) -> Cell:
    if text != ABSENT and not record.samples and record.foretold is not None:
        return Cell(f"~{text}", note=notes.keep(f"not measured: foretold by {record.foretold.how}"))
    if text != ABSENT:
        return Cell(text)
    if not record.samples:
        return notes.absent(_untimed(record))
    needed = SAMPLES_FOR_PERCENTILE[q]
    return Cell(f"n<{needed}", note=notes.keep(f"p{q:g} needs {needed} timed runs"))


def _foretold_ms(record: Measurement) -> float | None:
    return record.foretold.ms if record.foretold is not None and not record.samples else None


def _untimed(record: Measurement) -> str:
    if record.unmeasured in (EMULATED, SIMULATED):
        return f"not reported: {record.unmeasured}"
    unknown = record.foretold.how if record.foretold is not None and record.foretold.ms is None else ""
    told = f"not measured: {record.unmeasured or 'no run was timed'}"
    return f"{told}; not foretold: there is {unknown}" if unknown else told


def _speedup(record: Measurement, notes: _Notes) -> Cell:
    speedup: Interval | None = record.speedup
    if speedup is not None:
        return Cell(ratio(speedup.estimate), (f"{speedup.low:.2f}", f"{speedup.high:.2f}"))
    return notes.absent(_untimed(record)) if record.unmeasured else Cell()


def _size(records: Sequence[Measurement], unit: str, per_unit: int, notes: _Notes) -> tuple[Cell, ...]:
    """On disk; with a note where it is unpacked to more as it is loaded."""
    cells = []
    for record, text in zip(records, aligned([one.size_bytes / per_unit for one in records]), strict=True):
        loaded = record.loaded_bytes or 0
        unpacked = f"{loaded / per_unit:,.1f} {unit} once its 4-bit weights are unpacked as it is opened"
        cells.append(Cell(text, note=notes.keep(unpacked) if loaded > UNPACKED * record.size_bytes else 0))
    return tuple(cells)


def _memory(records: Sequence[Measurement], notes: _Notes) -> tuple[Cell, ...]:
    """Of the host; what a GPU holds is in a note."""
    texts = aligned([record.peak_memory_bytes and record.peak_memory_bytes / MB for record in records])
    cells = []
    for record, text in zip(records, texts, strict=True):
        if record.peak_memory_bytes is None:
            reason = _untimed(record) if record.unmeasured else "peak memory: the system does not tell it"
            cells.append(notes.absent(reason))
        else:
            held = record.device_memory_bytes
            cells.append(Cell(text, note=0 if held is None else notes.keep(f"and {held / MB:,.1f} MB on the GPU")))
    return tuple(cells)


def _energy(records: Sequence[Measurement], notes: _Notes) -> tuple[Cell, ...]:
    texts = aligned([record.energy.joules and 1000 * record.energy.joules for record in records])
    return tuple(
        notes.absent(_untimed(record) if record.unmeasured else f"energy unavailable: {record.energy.reason}")
        if record.energy.joules is None
        else Cell(text)
        for record, text in zip(records, texts, strict=True)
    )
