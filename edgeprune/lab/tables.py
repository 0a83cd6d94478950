"""Device x model x variant: a row for each, for people and for programs, and how it has changed since a run."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edgeprune.errors import OutputError
from edgeprune.lab.journal import DONE, Journal, Record
from edgeprune.metrics import Interval
from edgeprune.report.markdown import row as markdown_row
from edgeprune.report.summary import aligned, deciding
from edgeprune.results import EMULATED, MB, SIMULATED, Measured, Measurement
from edgeprune.whole_file import whole


@dataclass(frozen=True)
class Row:
    """A variant of a bundle on a device, or a job of which there is none because it failed."""

    run: int
    device: str
    target: str
    model: str
    variant: str
    state: str
    """`measured`, or the reason why not."""
    p50_ms: float | None = None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    """Interval at 95 %, from six process restarts on."""
    p99_ms: float | None = None
    memory_mb: float | None = None
    energy_mj: float | None = None
    size_kb: float | None = None
    accuracy: float | None = None
    drop: float | None = None
    """Against the unpruned FP32 baseline, as a fraction."""
    metric: str = ""
    samples: int | None = None
    judged_on: str = ""
    """`device` or `host`: which of them answered the samples."""
    precision: str = ""
    """What its layers ran in, as the runtime tells."""
    fallbacks: int | None = None
    """Layers that ran in another precision than intended."""
    runtime: str = ""
    machine: str = ""
    environment: str = ""
    """Fingerprint: only rows with equal ones are of equal machines and versions."""
    emulated: bool = False
    measured_at: str = ""

    @property
    def latency(self) -> str:
        """The median in words, where there is none."""
        if self.p50_ms is not None:
            return f"{self.p50_ms:.4g}"
        return f"not reported: {self.state}" if self.state in (EMULATED, SIMULATED) else " ".join(self.state.split())


COLUMNS = tuple(field.name for field in fields(Row))


def rows(journal: Journal, *, run: int | None = None, device: str | None = None) -> Iterator[Row]:
    """Of one run, or of all; of one device, or of all. Jobs that are not finished have none."""
    for record, measured in journal.measured(run=run, device=device):
        if record.state == DONE and measured is not None:
            yield from _of(record, measured)
        elif record.reason:
            job = record.job
            yield Row(record.run, job.device, job.target, job.name, "", record.reason, measured_at=record.at)


def latest(found: Iterable[Row]) -> list[Row]:
    """Of each device, model and variant the last one; a failure does not hide what was measured before it."""
    last: dict[tuple[str, str, str], Row] = {}
    for one in found:
        last[one.device, one.model, one.variant] = one
    measured = {(one.device, one.model): one.run for one in last.values() if one.variant}
    news = (one for one in last.values() if one.variant or measured.get((one.device, one.model), 0) < one.run)
    return sorted(news, key=lambda one: (one.device, one.model, one.run))  # and a failure that was put right is none


def _of(record: Record, measured: Measured) -> Iterator[Row]:
    for one in (measured.baseline, *measured.measurements):
        yield _row(record, one)


def _row(record: Record, one: Measurement) -> Row:
    accuracy, environment = deciding(one), one.environment
    interval = one.percentile_interval_ms(50) if one.samples_ms else None
    versions = environment.versions if environment is not None else {}
    return Row(
        run=record.run,
        device=record.job.device,
        target=record.job.target,
        model=record.job.name,
        variant=one.variant,
        state=one.unmeasured or "measured",
        p50_ms=one.percentile_ms(50),
        p50_low_ms=interval.low if interval else None,
        p50_high_ms=interval.high if interval else None,
        p99_ms=one.percentile_ms(99),
        memory_mb=None if one.peak_memory_bytes is None else one.peak_memory_bytes / MB,
        energy_mj=None if one.energy.joules is None else 1000 * one.energy.joules,
        size_kb=one.size_bytes / 1000,
        accuracy=accuracy.value.estimate if accuracy else None,
        drop=accuracy.drop.estimate if accuracy and accuracy.drop else None,
        metric=accuracy.metric if accuracy else "",
        samples=accuracy.samples if accuracy else None,
        judged_on="" if accuracy is None else "device" if accuracy.source == "measured" else "host",
        precision=_precision(one),
        fallbacks=len(one.fallbacks) if one.layers else None,
        runtime=f"{one.backend} {versions.get({'ort': 'onnxruntime'}.get(one.backend, one.backend), '?')}",
        machine=environment.machine if environment else "",
        environment=environment.fingerprint() if environment else "",
        emulated=environment.emulated if environment else False,
        measured_at=one.measured_at,
    )


def _precision(one: Measurement) -> str:
    """`int8`, or `int8 19, fp32 2` where layers differ."""
    counts = Counter(layer.effective for layer in one.layers).most_common()
    if len(counts) < 2:
        return next((name for name, _ in counts), "")
    return ", ".join(f"{name} {count}" for name, count in counts)


@dataclass(frozen=True)
class Change:
    """What became of a row since a run."""

    device: str
    model: str
    variant: str
    what: str
    before: str
    after: str


def changes(before: Sequence[Row], after: Sequence[Row]) -> list[Change]:
    """What differs, where it can be told: latency where the intervals do not meet, in one environment or another."""
    old = {(one.device, one.model, one.variant): one for one in before}
    new = {(one.device, one.model, one.variant): one for one in after}
    told = []
    for key in sorted(old.keys() | new.keys()):
        one, other = old.get(key), new.get(key)
        if one is None or other is None:
            there, gone = ("", (other or one).state) if one is None else (one.state, "")  # type: ignore[union-attr]
            told.append(Change(*key, "row", there or "not there", gone or "not there"))
            continue
        told += [Change(*key, *found) for found in _differences(one, other)]
    return told


def _differences(one: Row, other: Row) -> Iterator[tuple[str, str, str]]:
    if one.state != other.state:
        yield "state", one.state, other.state
    if _apart(one, other):
        yield "p50 ms", f"{one.p50_ms:.4g}", f"{other.p50_ms:.4g} ({other.p50_ms / one.p50_ms:.2f}x)"  # type: ignore[operator]
    if (judges := _judges(one)) != (others := _judges(other)):
        yield "judged by", judges, others
    elif one.accuracy is not None and other.accuracy is not None and abs(one.accuracy - other.accuracy) > 1e-9:
        yield "accuracy %", f"{100 * one.accuracy:.2f}", f"{100 * other.accuracy:.2f}"
    for name in ("precision", "fallbacks", "runtime", "machine"):
        if getattr(one, name) != getattr(other, name):
            yield name, str(getattr(one, name)), str(getattr(other, name))


def _judges(one: Row) -> str:
    """Accuracies are compared where these are equal."""
    return f"{one.metric} of {one.samples} samples on the {one.judged_on}" if one.metric else "nothing"


def _apart(one: Row, other: Row) -> bool:
    if None in (one.p50_low_ms, one.p50_high_ms, other.p50_low_ms, other.p50_high_ms):
        return False
    a, b = (Interval(row.p50_ms or 0, row.p50_low_ms or 0, row.p50_high_ms or 0) for row in (one, other))
    return a.high < b.low or b.high < a.low


def to_markdown(found: Sequence[Row]) -> str:
    """One table; what a column is not known of is a dash."""
    titles = (
        *("device", "model", "variant", "p50 ms", "p99 ms", "memory MB", "energy mJ", "accuracy %", "judged on"),
        *("precision", "runtime", "run", "date"),
    )
    lines = [markdown_row(titles), markdown_row([*["---"] * 3, *["--:"] * 5, *["---"] * 5])]
    shown = [_shown(found, name) for name in ("p99_ms", "memory_mb", "energy_mj")]
    for one, *numbers in zip(found, *shown, strict=True):
        accuracy = "-" if one.accuracy is None else f"{100 * one.accuracy:.1f}"
        words = (one.judged_on, one.precision, one.runtime, str(one.run), one.measured_at[:10])
        cells = (one.device, one.model, one.variant or "-", one.latency, *numbers, accuracy, *(w or "-" for w in words))
        lines.append(markdown_row(cells))
    return "\n".join(lines) + "\n"


def _shown(found: Sequence[Row], name: str) -> list[str]:
    return aligned([getattr(one, name) for one in found])


def to_csv(found: Sequence[Row]) -> str:
    """All columns, a line for each row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, found))
    return text.getvalue()


def write_parquet(found: Sequence[Row], path: Path) -> None:
    """All columns, typed. Raises OutputError."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds: Mapping[str, Any] = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
    schema = pa.schema([(field.name, kinds[str(field.type).partition(" ")[0]]) for field in fields(Row)])
    try:
        with whole(path) as partial:
            parquet.write_table(pa.Table.from_pylist([asdict(one) for one in found], schema), partial)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}): choose another -o") from error
