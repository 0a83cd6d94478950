"""One flat table over many bundles, a row per variant, for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import get_type_hints

from edgeprune.report.source import Source
from edgeprune.report.summary import deciding
from edgeprune.results import Measured, Measurement


@dataclass(frozen=True)
class Row:
    """One variant; None where a value was not measured."""

    schema: int
    """Of the file it comes from."""
    file: str
    bundle: str
    """Its name."""
    bundle_sha256: str
    model: str
    data: str | None
    target: str
    variant: str
    backend: str
    precision: str
    is_baseline: bool
    is_default: bool
    size_bytes: int
    loaded_bytes: int | None
    """With the weights as wide as the kernels have them."""
    metric: str | None
    split: str | None
    judged_samples: int | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    drop: float | None
    drop_low: float | None
    drop_high: float | None
    accuracy_source: str | None
    scenario: str
    samples_per_s: float | None
    """Where the scenario counts them."""
    late: float | None
    """Share of the queries that missed the scenario's deadline."""
    p50_ms: float | None
    p50_low_ms: float | None
    p50_high_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    timed_runs: int
    restarts: int
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    limit_ms: float | None
    """What this machine would take at its measured peaks."""
    limit_bound: str | None
    """`arithmetic` or `memory`."""
    load_ms: float | None
    compile_ms: float | None
    """The first restart's, which is the one that may find nothing in a cache."""
    compile_cached: bool | None
    """Whether it did."""
    first_inference_ms: float | None
    peak_memory_bytes: int | None
    device_memory_bytes: int | None
    energy_j: float | None
    energy_sensor: str | None
    energy_reason: str
    estimated_j: float | None
    """By what is published of operations; never measured."""
    unmeasured: str
    fallbacks: str
    """The layers that ran in another precision than meant."""
    warnings: str
    machine: str | None
    threads: int | None
    environment: str | None
    """Fingerprint of the machine and its versions: rows of one may be compared."""
    measured_at: str


def rows(sources: Sequence[Source]) -> list[Row]:
    """A row for every variant, the baselines first of each bundle."""
    return [
        _row(source, source.measured, record)
        for source in sources
        for record in (source.measured.baseline, *source.measured.measurements)
    ]


def as_csv(table: Sequence[Row]) -> str:
    """With a line of names; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Row)])
    writer.writerows(list(asdict(row).values()) for row in table)
    return text.getvalue()


def as_parquet(table: Sequence[Row]) -> bytes:
    """With the type of every column, also of one in which nothing was measured."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
    kinds = {
        name: next(one for one in types if kind in (one, one | None)) for name, kind in get_type_hints(Row).items()
    }
    schema = pa.schema([(name, types[kind]) for name, kind in kinds.items()])
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in table], schema=schema), sink)
    return sink.getvalue()


def _row(source: Source, measured: Measured, record: Measurement) -> Row:
    accuracy, environment = deciding(record), record.environment
    p50, speedup, drop = record.percentile_interval_ms(50), record.speedup, accuracy.drop if accuracy else None
    data = source.core.recipe.get("data", {}).get("name") if source.core is not None else None
    return Row(
        schema=record.schema,
        file=str(source.path or ""),
        bundle=source.name,
        bundle_sha256=record.bundle,
        model=record.model,
        data=data,
        target=record.target,
        variant=record.variant,
        backend=record.backend,
        precision=record.precision,
        is_baseline=record is measured.baseline,
        is_default=record.variant == measured.default,
        size_bytes=record.size_bytes,
        loaded_bytes=record.loaded_bytes,
        metric=accuracy.metric if accuracy else None,
        split=accuracy.split if accuracy else None,
        judged_samples=accuracy.samples if accuracy else None,
        accuracy=accuracy.value.estimate if accuracy else None,
        accuracy_low=accuracy.value.low if accuracy else None,
        accuracy_high=accuracy.value.high if accuracy else None,
        drop=drop.estimate if drop else None,
        drop_low=drop.low if drop else None,
        drop_high=drop.high if drop else None,
        accuracy_source=accuracy.source if accuracy else None,
        scenario=str(record.scenario),
        samples_per_s=record.throughput,
        late=record.late,
        p50_ms=record.percentile_ms(50),
        p50_low_ms=p50.low if p50 else None,
        p50_high_ms=p50.high if p50 else None,
        p90_ms=record.percentile_ms(90),
        p99_ms=record.percentile_ms(99),
        timed_runs=record.samples,
        restarts=len(record.samples_ms),
        speedup=speedup.estimate if speedup else None,
        speedup_low=speedup.low if speedup else None,
        speedup_high=speedup.high if speedup else None,
        limit_ms=record.limit.ms if record.limit else None,
        limit_bound=record.limit.bound if record.limit else None,
        load_ms=median(record.load_ms) if record.load_ms else None,
        compile_ms=record.compile_ms[0] if record.compile_ms else None,
        compile_cached=record.compile_cached[0] if record.compile_cached else None,
        first_inference_ms=median(record.first_inference_ms) if record.first_inference_ms else None,
        peak_memory_bytes=record.peak_memory_bytes,
        device_memory_bytes=record.device_memory_bytes,
        energy_j=record.energy.joules,
        energy_sensor=record.energy.sensor,
        energy_reason=record.energy.reason,
        estimated_j=record.estimated_joules,
        unmeasured=record.unmeasured,
        fallbacks="; ".join(layer.name for layer in record.fallbacks),
        warnings="; ".join(record.warnings),
        machine=environment.machine if environment else None,
        threads=environment.threads if environment else None,
        environment=environment.fingerprint() if environment else None,
        measured_at=record.measured_at,
    )
