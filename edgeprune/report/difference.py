"""What differs between two bundles; what was measured is compared only where the environments are equal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeprune.bundle import Bundle
from edgeprune.metrics import Interval
from edgeprune.report.alike import circumstances, different
from edgeprune.report.contents import effective, records, shape, variants
from edgeprune.report.summary import ABSENT, environment_of, ratio
from edgeprune.results import Measured, Measurement


@dataclass(frozen=True)
class Change:
    """One thing that differs; None where a bundle has no such thing."""

    part: str
    """`recipe`, `layers`, `sizes`, `accuracy`, ..."""
    name: str
    a: Any
    b: Any
    note: str = ""
    """How far they are apart, where that is a number."""


@dataclass(frozen=True)
class Difference:
    """All that differs, and what was not compared."""

    same: bool
    """Whether the hashed cores are equal, byte for byte."""
    changes: tuple[Change, ...]
    not_compared: tuple[str, ...]
    """What, and why not."""


def difference(a: Bundle, b: Bundle, found_a: Measured | None, found_b: Measured | None) -> Difference:
    """Compare two bundles, and their measurements where they have any."""
    changes = [change for part, (of_a, of_b) in _parts(a, b).items() for change in _changes(part, of_a, of_b)]
    changes += _effective(records(found_a), records(found_b))
    changes += [
        Change("sizes, bytes", name, of_a, of_b, ratio(of_b / of_a))
        for name, of_a, of_b in _both(_sizes(a), _sizes(b))
        if None not in (of_a, of_b) and of_a != of_b
    ]
    reasons = tuple(_incomparable(found_a, found_b))
    if not reasons and found_a is not None and found_b is not None:
        changes += _latencies(records(found_a), records(found_b))
        judged, left = _accuracies(a, b, found_a, found_b)
        changes, reasons = changes + judged, left
    return Difference(a.sha256 == b.sha256, tuple(changes), reasons)


def document(found: Difference) -> dict[str, Any]:
    """The same, JSON-ready."""
    return asdict(found)


def page(a: Bundle, b: Bundle, found: Difference) -> RenderableType:
    """The same for a terminal of 100 columns."""
    parts: list[RenderableType] = [Text(f"A {a.root}\nB {b.root}")]
    if found.same:
        parts.append(Text("the hashed cores are equal: the same bundle twice"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for title, share in (("", 38), ("A", 23), ("B", 23), ("B / A", 6)):
        table.add_column(title, max_width=share, overflow="fold")
    part = ""
    for change in found.changes:
        if change.part != part:
            part = change.part
            table.add_row(Text(part, style="bold"))
        table.add_row(f"  {change.name}", _said(change.a), _said(change.b), change.note)
    if found.changes:
        parts += [Text(), table]
    return Group(*parts, *(Text(f"not compared: {reason}", style="yellow") for reason in found.not_compared))


def _said(value: Any) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, Interval):
        return f"{value.estimate:.4g} [{value.low:.4g}, {value.high:.4g}]"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _parts(a: Bundle, b: Bundle) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What was decided, part by part, each a flat table."""
    shared = {variant.name for variant in variants(a.core)} & {variant.name for variant in variants(b.core)}
    first, second = _decided(a, shared), _decided(b, shared)
    return {part: (first[part], second[part]) for part in first}


def _decided(bundle: Bundle, shared: Collection[str]) -> dict[str, dict[str, Any]]:
    """What one bundle says; layers and files only of the variants that both have."""
    core = bundle.core
    apart = {file for one in variants(core) if one.name not in shared for file in one.files.values()}
    pruning = {name: value for name, value in core.pruning.items() if name.startswith("macs")}
    return {
        "bundle": {
            "model": core.model,
            "target": core.target,
            "inputs": "; ".join(map(shape, core.inputs)),
            "outputs": "; ".join(map(shape, core.outputs)),
            "untrained": core.untrained,
        },
        "recipe": dict(_flat(core.recipe)),
        "channels": {one["name"]: one["after"] for one in core.pruning.get("layers", ())},
        "multiply-accumulates": {name: pruning[name] for name in ("macs_dense", "macs") if name in pruning},
        "variants": {variant.name: f"{variant.backend} {variant.precision}" for variant in variants(core)},
        "precision meant": {
            f"{variant.name} {plan.name}": plan.precision
            for variant in variants(core)
            if variant.name in shared
            for plan in variant.layers
        },
        "splits": {name: f"{split.rows} {split.sha256[:8]}" for name, split in core.splits.items()},
        "assumed of the device": dict(core.assumptions),
        "made with": dict(core.versions),
        "files, SHA-256": {name: digest[:16] for name, digest in core.sha256.items() if name not in apart},
    }


def _flat(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _both(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*a, *b]):
        yield name, a.get(name), b.get(name)


def _changes(part: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    return (Change(part, name, of_a, of_b) for name, of_a, of_b in _both(a, b) if of_a != of_b)


def _sizes(bundle: Bundle) -> dict[str, int]:
    return {variant.name: bundle.size_bytes(variant) for variant in variants(bundle.core)}


def _effective(a: dict[str, Measurement], b: dict[str, Measurement]) -> Iterator[Change]:
    """What layers ran in, where both were measured: what was not is said elsewhere."""
    for name in a.keys() & b.keys():
        ran_a, ran_b = effective(a[name]), effective(b[name])
        if ran_a and ran_b:
            flat_a = {f"{name} {layer}": precision for layer, precision in ran_a.items()}
            flat_b = {f"{name} {layer}": precision for layer, precision in ran_b.items()}
            yield from _changes("precision that ran", flat_a, flat_b)


def _incomparable(a: Measured | None, b: Measured | None) -> Iterator[str]:
    """Why nothing that was measured can be compared."""
    for name, measured in (("A", a), ("B", b)):
        if measured is None:
            yield f"accuracy and latency: {name} was not measured"
        elif environment_of(measured) is None:
            yield f"accuracy and latency: {name} was not run: {measured.baseline.unmeasured or 'no device'}"
    if a is not None and b is not None and environment_of(a) and environment_of(b):
        names = [name for name, *_ in different(circumstances(a), circumstances(b))]
        if names:
            yield f"accuracy and latency: the environments differ in {', '.join(names)}"


def _latencies(a: dict[str, Measurement], b: dict[str, Measurement]) -> Iterator[Change]:
    for name in (name for name in a if name in b and a[name].samples_ms != b[name].samples_ms):
        p50_a, p50_b = a[name].percentile_interval_ms(50), b[name].percentile_interval_ms(50)
        if p50_a and p50_b:
            yield Change("p50, ms (two runs, not by turns)", name, p50_a, p50_b, ratio(p50_b.estimate / p50_a.estimate))


def _accuracies(a: Bundle, b: Bundle, found_a: Measured, found_b: Measured) -> tuple[list[Change], tuple[str, ...]]:
    """Accuracy on the splits that hold the same samples in both, and the splits that do not."""
    changes: list[Change] = []
    left = []
    judges = dict.fromkeys((one.split, one.metric) for record in records(found_a).values() for one in record.accuracy)
    for split, metric in ((split, metric) for split, metric in judges if split in b.core.splits):
        judged_a, judged_b = (_on(split, metric, records(found)) for found in (found_a, found_b))
        both = [name for name in judged_a if name in judged_b]
        if both and a.core.splits[split].sha256 != b.core.splits[split].sha256:
            left.append(f"accuracy on {split}: not the same samples")
            continue
        of_a, of_b = ({name: judged[name] for name in both} for judged in (judged_a, judged_b))
        name = "accuracy" if metric == "top1" else metric
        changes += _changes(f"{name} on {split}, %", of_a, of_b)
    return changes, tuple(left)


def _on(split: str, metric: str, found: dict[str, Measurement]) -> dict[str, Interval]:
    """Percent by variant, where the deployed file itself was judged."""
    return {
        name: Interval(100 * accuracy.value.estimate, 100 * accuracy.value.low, 100 * accuracy.value.high)
        for name, record in found.items()
        for accuracy in record.accuracy
        if (accuracy.split, accuracy.metric) == (split, metric) and accuracy.source == "measured"
    }
