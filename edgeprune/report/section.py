"""All that a page says of one bundle, in words and digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import yaml

from edgeprune.bundle import Core
from edgeprune.report.figures import Picture, layer_pictures, pictures
from edgeprune.report.layers import LayerRow, Wider, layer_rows, untold, wider
from edgeprune.report.source import Source
from edgeprune.report.summary import (
    Summary,
    aligned,
    apart,
    conditions,
    environment_of,
    fallbacks,
    headline,
    judged_by,
    limits,
    percent,
    points,
    subject,
    summarize,
    training,
    unit_of_time,
)
from edgeprune.report.worth import Value, bounds, size_of, worth
from edgeprune.results import Distance, Environment, Measurement

NAMES = {
    "keep": "of the MACs asked to stay",
    "macs_dense": "MACs before",
    "macs": "MACs",
    "max_drop": "points lost, at most",
    "max_latency_ms": "ms, at most",
    "max_size_mb": "MB, at most",
}
"""What people call them; MACs are multiply-accumulates of one sample."""
Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Facts:
    """Facts that belong together."""

    title: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Details:
    """What a page says of a bundle where it is about a few."""

    pictures: tuple[Picture, ...]
    layer_pictures: tuple[Picture, ...]
    layer_variants: tuple[str, ...]
    layers: tuple[LayerRow, ...]
    apart: Rows
    parity: Rows
    runs: Rows
    time_unit: str
    tried: Rows
    pruned: Rows
    recipe: str
    files: Rows


@dataclass(frozen=True)
class Section:
    """What a page says of a bundle."""

    name: str
    subject: str
    conditions: str
    headline: str
    default: str
    worth: Mapping[str, Value]
    summary: Summary
    training: str
    limits: str
    fallbacks: tuple[str, ...]
    fell_back: int
    """Layers, of all variants."""
    wider: tuple[Wider, ...]
    untold: Mapping[str, str]
    facts: tuple[Facts, ...]
    splits: Rows
    command: str
    details: Details | None
    """None on a page about many."""


def section(source: Source, *, detailed: bool) -> Section:
    """In full, or what can be said in few words."""
    measured, core = source.measured, source.core
    rows = layer_rows(measured, core, source.predicted)
    return Section(
        name=source.name,
        subject=subject(measured, core),
        conditions=conditions(measured),
        headline=headline(measured),
        default=measured.default or "none",
        worth=worth(measured),
        summary=summarize(measured, core),
        training=training(core),
        limits=limits(measured),
        fallbacks=tuple(map(str, fallbacks(measured))),
        fell_back=sum(len(one.layers) for one in fallbacks(measured)),
        wider=wider(rows, measured, core),
        untold=untold(measured),
        facts=tuple(_facts(core, environment_of(measured), measured.baseline.bundle)),
        splits=_splits(core),
        command=core.command if core is not None else "",
        details=_details(source, rows) if detailed else None,
    )


def _details(source: Source, rows: tuple[LayerRow, ...]) -> Details:
    measured, core = source.measured, source.core
    records = (measured.baseline, *measured.measurements)
    unit, per_ms = unit_of_time(measured)
    return Details(
        pictures=pictures(source),
        layer_pictures=layer_pictures(source, rows),
        layer_variants=tuple(one.variant for one in records if any(one.variant in row.uses for row in rows)),
        layers=rows,
        apart=_apart(source),
        parity=_parity(records),
        runs=_runs([record for record in records if record.samples], per_ms),
        time_unit=unit,
        tried=_tried(source),
        pruned=_pruned(core),
        recipe=_yaml(core.recipe) if core is not None else "",
        files=tuple(core.sha256.items()) if core is not None else (),
    )


def _apart(source: Source) -> Rows:
    rows = []
    for variant, accuracy in apart(source.measured):
        value, drop = accuracy.value, accuracy.drop
        rows.append(
            (
                judged_by(accuracy),
                variant,
                f"{accuracy.samples:,}",
                f"{percent(value.estimate)} ({bounds(value, percent)})",
                f"{points(drop.estimate)} ({bounds(drop, points)})" if drop else "",
                accuracy.source,
            )
        )
    return tuple(rows)


def _parity(records: Sequence[Measurement]) -> Rows:
    """By variant the worst output of its file against the float graph, and of its runtime against its file."""
    rows = []
    for record in records:
        if (found := record.parity) is not None:
            scores = [percent(one) if one is not None else "-" for one in (found.file_score, found.runtime_score)]
            rows.append((record.variant, f"{found.samples:,}", _worst(found.file), _worst(found.runtime), *scores))
    return tuple(rows)


def _worst(distances: Sequence[Distance]) -> str:
    worst = min(distances, key=lambda one: one.snr_db, default=None)
    if worst is None:
        return "-"
    return "equal" if worst.largest == 0 else f"{worst.largest:.1e} ({worst.snr_db:.0f} dB)"


def _runs(records: Sequence[Measurement], per_ms: float) -> Rows:
    rows = []
    for record in records:
        interval = record.percentile_interval_ms(50)
        ends = aligned([interval.low * per_ms, interval.high * per_ms]) if interval else ["-", "-"]
        rows.append(
            (
                record.variant,
                f"{median(record.load_ms):.1f}" if record.load_ms else "-",
                _compiled(record),
                f"{median(record.first_inference_ms):.2f}" if record.first_inference_ms else "-",
                str(len(record.samples_ms)),
                f"{record.samples:,}",
                f"{ends[0]} to {ends[1]}",
            )
        )
    return tuple(rows)


def _compiled(record: Measurement) -> str:
    """The first restart's: the others may find what it left in a cache."""
    if not record.compile_ms:
        return "-"
    return f"{record.compile_ms[0]:.1f}{' (cached)' if record.compile_cached[0] else ''}"


def _tried(source: Source) -> Rows:
    return tuple(
        (
            "chosen" if one.chosen else "",
            ", ".join(f"{count} in {precision}" for precision, count in one.layers.items()),
            size_of(one.file_bytes),
            f"{one.lost_points + 0.0:.2f}",
            f"{one.predicted_loss:.3g}",
        )
        for one in sorted(source.tried, key=lambda one: one.file_bytes)
    )


def _facts(core: Core | None, environment: Environment | None, bundle: str) -> list[Facts]:
    found = []
    if core is not None:
        whole = {"layers", "connections"} | ({"keep"} if core.pruning.get("pruner", "none") == "none" else set())
        pruning = {name: value for name, value in core.pruning.items() if name not in whole}
        found.append(Facts("Pruning", _pairs(pruning)))
        found.append(
            Facts(
                "Budgets",
                _pairs(
                    {name: limit for name, limit in core.budgets.items() if limit is not None} or {"budgets": "none"}
                ),
            )
        )
    if environment is not None:
        lasting = {
            "processor": f"{environment.machine}, {environment.cores} cores, {environment.arch}",
            "instruction sets": ", ".join(environment.isa) or "unknown",
            "memory": f"{environment.memory_bytes / 1e9:.1f} GB",
            "system": f"{environment.os}, Python {environment.python}",
            "threads": environment.threads,
            "frequency governor": environment.governor,
            "load average": f"{environment.load_average:.2f}",
        }
        told = {
            "clock": environment.clock_mhz and f"{environment.clock_mhz:.0f} MHz",
            "turbo": _yes(environment.turbo),
            "two threads a core": _yes(environment.smt),
            "power mode": environment.power_mode,
            "temperature": environment.temperature_c and f"{environment.temperature_c:.0f} °C",
            "throttled since it was started": environment.throttled,
        }
        lasting |= {name: value for name, value in told.items() if value is not None}
        if environment.emulated:
            lasting["emulated"] = "yes: latency says nothing about the device"
        found += [Facts("Measured on", _pairs(lasting)), Facts("Measured with", _pairs(environment.versions))]
    if core is not None:
        found.append(Facts("Made with", _pairs(core.versions)))
        if core.assumptions:
            found.append(Facts("Assumed of the device", _pairs(core.assumptions)))
    found.append(Facts("Bundle", _pairs({"SHA-256": bundle} | ({"seed": core.seed} if core else {}))))
    return found


def _yes(flag: bool | None) -> str | None:
    return None if flag is None else "yes" if flag else "no"


def _pruned(core: Core | None) -> Rows:
    """Per layer its output channels before and after, or its weights, and why it was left or cut less."""
    pruning = core.pruning if core is not None else {}
    layers = pruning.get("connections") or pruning.get("layers", ())
    return tuple((str(one["name"]), str(one["before"]), str(one["after"]), str(one["reason"])) for one in layers)


def _splits(core: Core | None) -> Rows:
    splits = core.splits if core is not None else {}
    return tuple((name, split.rows, f"{split.samples:,}", split.sha256[:16]) for name, split in splits.items())


def _pairs(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (NAMES.get(name, name.replace("_", " ")), f"{value:,}" if isinstance(value, int) else str(value))
        for name, value in record.items()
    )


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=100)
