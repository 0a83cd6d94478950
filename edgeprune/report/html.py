"""One self-contained HTML page about one or many bundles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
import yaml

from edgeprune.bundle import Core
from edgeprune.errors import OutputError
from edgeprune.metrics import Interval
from edgeprune.recipe import kernels
from edgeprune.report import plots
from edgeprune.report.summary import (
    Summary,
    aligned,
    apart,
    conditions,
    deciding,
    default,
    environment_of,
    fallbacks,
    headline,
    judged_by,
    percent,
    percent_of,
    points,
    ratio,
    subject,
    summarize,
    training,
    unit_of_time,
)
from edgeprune.results import Environment, Layer, Measured, Measurement

TILES = ("speed-up", "latency p50", "size", "accuracy", "points lost")


@dataclass(frozen=True)
class Tile:
    """One large number, and below it a smaller one."""

    value: str
    below: str = ""


@dataclass(frozen=True)
class Picture:
    """A plot with what it shows."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Group:
    """Facts that belong together."""

    title: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class LayerRow:
    """One layer, and what each variant made of it."""

    name: str
    op: str
    found: tuple[Layer | None, ...]


@dataclass(frozen=True)
class Section:
    """All that the page says of one bundle."""

    subject: str
    conditions: str
    headline: str
    measured: Measured
    core: Core | None
    summary: Summary
    training: str
    tiles: tuple[tuple[str, Tile], ...]
    fallbacks: tuple[str, ...]
    figures: tuple[Picture, ...]
    apart: tuple[tuple[str, ...], ...]
    time_unit: str
    runs: tuple[tuple[str, ...], ...]
    layer_variants: tuple[str, ...]
    layers: tuple[LayerRow, ...]
    groups: tuple[Group, ...]
    pruned: tuple[tuple[str, ...], ...]
    splits: tuple[tuple[str, ...], ...]
    recipe: str


def render(bundles: Sequence[tuple[Core | None, Measured]]) -> str:
    """The page; a bundle without its core (a lone `measured.json`) lacks what only the core knows.

    Names of layers, machines and files come from elsewhere: all text is escaped.
    """
    sections = [_section(measured, core) for core, measured in bundles]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    title = f"EdgePrune: {sections[0].subject}" if len(sections) == 1 else f"EdgePrune: {len(sections)} bundles"
    return environment.get_template("page.html.j2").render(title=title, sections=sections, overview=TILES)


def save(page: str, path: Path) -> None:
    """Write a page; it appears whole or not at all. Raises OutputError where it cannot."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another place") from error


def _section(measured: Measured, core: Core | None) -> Section:
    records = (measured.baseline, *measured.measurements)
    explained = [record for record in records if record.layers]
    return Section(
        subject=subject(measured, core),
        conditions=conditions(measured),
        headline=headline(measured),
        measured=measured,
        core=core,
        summary=summarize(measured, core),
        training=training(core),
        tiles=_tiles(measured),
        fallbacks=tuple(map(str, fallbacks(measured))),
        figures=_figures(measured),
        apart=_apart(measured),
        time_unit=unit_of_time(measured)[0],
        runs=_runs([record for record in records if record.samples], unit_of_time(measured)[1]),
        layer_variants=tuple(record.variant for record in explained),
        layers=_layers(explained),
        groups=tuple(_groups(core, environment_of(measured), measured.baseline.bundle)),
        pruned=_pruned(core),
        splits=_splits(core),
        recipe=_yaml(core.recipe) if core else "",
    )


def _tiles(measured: Measured) -> tuple[tuple[str, Tile], ...]:
    """What the default variant is worth beside the baseline; the same tiles for every bundle."""
    chosen = default(measured)
    if chosen is None:
        return ()
    tiles = dict.fromkeys(TILES, Tile("-"))
    if chosen.speedup is not None:
        tiles["speed-up"] = Tile(ratio(chosen.speedup.estimate), _bounds(chosen.speedup, "{:.2f}".format))
    if (p50 := chosen.percentile_ms(50)) is not None:
        unit, per_ms = unit_of_time(measured)
        tiles["latency p50"] = Tile(f"{aligned([p50 * per_ms])[0]} {unit}", "one input at a time")
    share = percent_of(chosen.size_bytes, measured.baseline.size_bytes)
    tiles["size"] = Tile(share, f"{chosen.size_bytes / 1000:,.1f} kB")
    if (accuracy := deciding(chosen)) is not None:
        bounds = "agreement with FP32" if accuracy.metric == "agreement" else _bounds(accuracy.value, percent)
        how = "" if accuracy.source == "measured" else ", simulated"
        tiles["accuracy"] = Tile(f"{percent(accuracy.value.estimate)} %", bounds + how)
        if accuracy.drop is not None:
            tiles["points lost"] = Tile(points(accuracy.drop.estimate), _bounds(accuracy.drop, points))
    return tuple(tiles.items())


def _bounds(interval: Interval, say: Callable[[float], str]) -> str:
    return f"{say(interval.low)} to {say(interval.high)}"


def _figures(measured: Measured) -> tuple[Picture, ...]:
    drawn = (
        (
            "Accuracy against latency",
            plots.accuracy_against_latency(measured),
            "Up and to the left is better. A disc's area is the size on disk; filled is 8-bit.",
        ),
        (
            "How latency spreads",
            plots.latency_distribution(measured),
            "Every timed run up to the slowest variant's p99. Ticks under a shape: the median of each process restart.",
        ),
    )
    return tuple(Picture(title, svg, caption) for title, svg, caption in drawn if svg is not None)


def _apart(measured: Measured) -> tuple[tuple[str, ...], ...]:
    rows = []
    for variant, accuracy in apart(measured):
        value, drop = accuracy.value, accuracy.drop
        rows.append(
            (
                judged_by(accuracy),
                variant,
                f"{accuracy.samples:,}",
                f"{percent(value.estimate)} ({_bounds(value, percent)})",
                f"{points(drop.estimate)} ({points(drop.low)} to {points(drop.high)})" if drop else "",
                accuracy.source,
            )
        )
    return tuple(rows)


def _runs(records: Sequence[Measurement], per_ms: float) -> tuple[tuple[str, ...], ...]:
    rows = []
    for record in records:
        interval = record.percentile_interval_ms(50)
        bounds = aligned([interval.low * per_ms, interval.high * per_ms]) if interval else ["-", "-"]
        rows.append(
            (
                record.variant,
                f"{median(record.load_ms):.1f}" if record.load_ms else "-",
                f"{median(record.first_inference_ms):.2f}" if record.first_inference_ms else "-",
                str(len(record.samples_ms)),
                f"{record.samples:,}",
                f"{bounds[0]} to {bounds[1]}",
            )
        )
    return tuple(rows)


def _layers(records: Sequence[Measurement]) -> tuple[LayerRow, ...]:
    ops = {layer.name: layer.op for record in records for layer in record.layers}
    found = [{layer.name: _telling(layer, record.precision) for layer in record.layers} for record in records]
    return tuple(LayerRow(name, op, tuple(layers.get(name) for layers in found)) for name, op in ops.items())


def _telling(layer: Layer, precision: str) -> Layer:
    """The layer without a reason where there is nothing to explain: it ran in the variant's own precision."""
    usual = not layer.fell_back and layer.effective == kernels(precision) and precision != "mixed"
    return replace(layer, reason="") if usual else layer


def _groups(core: Core | None, environment: Environment | None, bundle: str) -> list[Group]:
    groups = []
    if core is not None:
        groups.append(
            Group("Pruning", _pairs({name: value for name, value in core.pruning.items() if name != "layers"}))
        )
        budgets = {name: "none" if limit is None else limit for name, limit in core.budgets.items()}
        groups.append(Group("Budgets", _pairs(budgets)))
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
        if environment.temperature_c is not None:
            lasting["temperature"] = f"{environment.temperature_c:.0f} °C"
        if environment.emulated:
            lasting["emulated"] = "yes: latency says nothing about the device"
        groups += [Group("Measured on", _pairs(lasting)), Group("With", _pairs(environment.versions))]
    if core is not None:
        groups.append(Group("Made with", _pairs(core.versions)))
        if core.assumptions:
            groups.append(Group("Assumed of the device", _pairs(core.assumptions)))
    groups.append(Group("Bundle", _pairs({"SHA-256": bundle} | ({"seed": core.seed} if core else {}))))
    return groups


def _pruned(core: Core | None) -> tuple[tuple[str, ...], ...]:
    """Per layer its output channels before and after, and why it was left or cut less."""
    layers = core.pruning.get("layers", ()) if core is not None else ()
    return tuple((str(one["name"]), str(one["before"]), str(one["after"]), str(one["reason"])) for one in layers)


def _splits(core: Core | None) -> tuple[tuple[str, ...], ...]:
    splits = core.splits if core is not None else {}
    return tuple((name, split.rows, f"{split.samples:,}", split.sha256[:16]) for name, split in splits.items())


def _pairs(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
        for name, value in record.items()
    )


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=100)
