"""What a bundle is: its variants, what was pruned, which precision was meant and which ran, and what it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeprune.adapter import adapter
from edgeprune.bundle import Bundle, Core, LayerPlan, Variant
from edgeprune.errors import CorruptError
from edgeprune.recipe import kernels
from edgeprune.report.summary import ABSENT, UNTRAINED, aligned, deciding, percent
from edgeprune.results import MB, Measured, Measurement, read_measured
from edgeprune.tensor import TensorSpec

BESIDE = 6
"""Variants whose precisions fit beside each other into 100 columns."""
UNMEASURED = "unmeasured"
COSTS = {"macs": "multiply-accumulates", "weights": "weights", "latency": "latency"}
"""In words, what a pruner keeps a fraction of."""


def measured_of(bundle: Bundle) -> Measured | None:
    """What was measured of a bundle; None where nothing was. Raises CorruptError where it is another bundle's."""
    if not bundle.measured_path.is_file():
        return None
    measured = read_measured(bundle.measured_path)
    if measured.baseline.bundle != bundle.sha256:
        raise CorruptError(f"{bundle.measured_path}: of another bundle: run `edgeprune bench {bundle.root}`")
    return measured


def records(measured: Measured | None) -> dict[str, Measurement]:
    """Measurements by variant."""
    every = (measured.baseline, *measured.measurements) if measured is not None else ()
    return {record.variant: record for record in every}


def variants(core: Core) -> tuple[Variant, ...]:
    """All of a bundle, the baseline first."""
    return (core.baseline, *core.variants)


def effective(record: Measurement | None) -> dict[str, str]:
    """What each layer ran in, by layer; nothing where it was not measured."""
    return {layer.name: layer.effective for layer in record.layers} if record is not None else {}


def contents(bundle: Bundle, measured: Measured | None) -> dict[str, Any]:
    """All of it as one JSON-ready document: bytes, fractions, whole hashes."""
    core: dict[str, Any] = adapter(Core).dump_python(bundle.core, mode="json", exclude={"baseline", "variants"})
    found = records(measured)
    return {
        "bundle": str(bundle.root),
        "bundle_sha256": bundle.sha256,
        **core,
        "default": measured.default if measured is not None else None,
        "default_reason": measured.default_reason if measured is not None else "not measured",
        "baseline": bundle.core.baseline.name,
        "variants": [_variant(bundle, variant, found.get(variant.name)) for variant in variants(bundle.core)],
    }


def page(bundle: Bundle, measured: Measured | None) -> RenderableType:
    """The same for a terminal of 100 columns."""
    core, data = bundle.core, bundle.core.recipe.get("data", {}).get("name")
    parts: list[RenderableType] = [
        Text(f"{core.model}{f' on {data}' if data else ''} for {core.target}", style="bold"),
        _facts(bundle, measured),
    ]
    if core.untrained:
        parts.append(Text(UNTRAINED, style="yellow"))
    parts += [Text(), _sizes(bundle, measured), Text(), *_pruned(core), Text("precision per layer", style="bold")]
    every = variants(core)
    parts += [_precisions(every[start : start + BESIDE], measured) for start in range(0, len(every), BESIDE)]
    return Group(*parts, Text(), _splits(core))


def shape(spec: TensorSpec) -> str:
    """A tensor in words."""
    return f"{spec.name}: {spec.dtype} [{', '.join(map(str, spec.shape))}]"


def _variant(bundle: Bundle, variant: Variant, record: Measurement | None) -> dict[str, Any]:
    ran = {layer.name: layer for layer in record.layers} if record is not None else {}
    return {
        "name": variant.name,
        "backend": variant.backend,
        "precision": variant.precision,
        "size_bytes": bundle.size_bytes(variant),
        "files": variant.files,
        "options": variant.options,
        "unproven": variant.unproven,
        "unmeasured": record.unmeasured if record is not None else "not measured",
        "layers": [
            {
                "name": plan.name,
                "op": plan.op,
                "weight": plan.weight,
                "intended": plan.precision,
                "weight_bits": plan.weight_bits,
                "reason": plan.reason,
                "effective": ran[plan.name].effective if plan.name in ran else None,
                "effective_reason": ran[plan.name].reason if plan.name in ran else None,
            }
            for plan in variant.layers
        ],
    }


def _facts(bundle: Bundle, measured: Measured | None) -> Table:
    core = bundle.core
    limits = {"max_drop": "points lost", "max_latency_ms": "ms", "max_size_mb": "MB"}
    told = {
        "input": "; ".join(map(shape, core.inputs)),
        "output": "; ".join(map(shape, core.outputs)),
        "default": f"{measured.default or 'none'} ({measured.default_reason})" if measured else "none: not measured",
        "budgets": ", ".join(f"at most {limit:g} {limits.get(name, name)}" for name, limit in core.budgets.items()
                             if limit is not None) or "none",
        "assumed": _joined(core.assumptions),
        "made with": _joined(core.versions),
        "made by": f"{core.command}  (in its folder; seed {core.seed})",
        "SHA-256": f"{bundle.sha256} ({len(core.sha256)} files)",
    }  # fmt: skip
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in told.items():
        if text:
            table.add_row(name, text)
    return table


def _joined(pairs: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs.items())


def _sizes(bundle: Bundle, measured: Measured | None) -> Table:
    found, every = records(measured), variants(bundle.core)
    table = _table("variant", "size, MB", "p50, ms", "accuracy, %", "")
    sizes = aligned([bundle.size_bytes(variant) / MB for variant in every])
    times = aligned([found[one.name].percentile_ms(50) if one.name in found else None for one in every])
    for variant, size, time in zip(every, sizes, times, strict=True):
        record = found.get(variant.name)
        accuracy = deciding(record) if record is not None else None
        roles = ["default"] * (measured is not None and variant.name == measured.default)
        roles += ["baseline"] * (variant is bundle.core.baseline)
        told = f"{percent(accuracy.value.estimate)} {accuracy.split}" if accuracy is not None else ABSENT
        table.add_row(variant.name, size, time, told, ", ".join(roles))
    return table


def _pruned(core: Core) -> Iterator[RenderableType]:
    layers, pruning = core.pruning.get("layers", ()), core.pruning
    of = COSTS.get(pruning.get("cost", "macs"), "cost")
    asked = f", {pruning['keep']:g} of the {of} asked to stay" if "keep" in pruning else ""
    if len(events := pruning.get("events", ())) > 1:
        asked += f", {'exchanged' if any(one.get('grown') for one in events) else 'removed'} in {len(events)} steps"
    macs = f": {pruning['macs_dense']:,} -> {pruning['macs']:,} per sample" if "macs" in pruning else ""
    yield Text.assemble(("pruned by ", "bold"), (str(pruning.get("pruner", "none")), "bold"), asked, macs)
    if blocks := pruning.get("blocks"):
        yield Text(f"blocks removed: {', '.join(blocks)}")
    if layers:
        table = _table("layer", "channels", "->", "why left")
        for one in layers:
            reason = one["reason"] or ("" if one["after"] < one["before"] else "nothing of it was chosen")
            table.add_row(one["name"], f"{one['before']:,}", f"{one['after']:,}", reason)
        yield table
    if connections := pruning.get("connections", ()):
        table = _table("weights", "all", "->", "why left")
        for one in connections:
            table.add_row(one["name"], f"{one['before']:,}", f"{one['after']:,}", one["reason"])
        yield table
    yield Text()


def _precisions(every: Sequence[Variant], measured: Measured | None) -> RenderableType:
    """A row per layer: what was meant, and after an arrow what ran where that is something else."""
    found = records(measured)
    table = _table("layer", "op", *(f"{variant.backend}\n{variant.precision}" if variant.backend in variant.name
                                    else f"{variant.name}\n{variant.precision}" for variant in every))  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "left"
    plans = [{plan.name: plan for plan in variant.layers} for variant in every]
    ran = [effective(found.get(variant.name)) for variant in every]
    ops = {plan.name: plan.op for layers in plans for plan in layers.values()}
    for name, op in ops.items():
        table.add_row(
            name, op, *(_told(layers.get(name), done.get(name)) for layers, done in zip(plans, ran, strict=True))
        )
    notes: dict[str, list[str]] = {}
    for variant, done in zip(every, ran, strict=True):
        if not done:
            record = found.get(variant.name)
            why = (record.unmeasured or "the runtime told no layers") if record is not None else "not measured"
            notes.setdefault(why, []).append(variant.name)
    told = [f"what is meant, not what ran ({why}): {', '.join(names)}" for why, names in notes.items()]
    return Group(table, *(Text(note, style="dim") for note in told), *_reasons(every, found))


def _told(plan: LayerPlan | None, ran: str | None) -> str:
    if plan is None:
        return ABSENT
    meant = plan.precision if plan.weight_bits >= 8 else f"{plan.precision} w{plan.weight_bits:.2g}"
    return meant if ran in (None, plan.precision) else f"{meant}->{ran}"


def _reasons(every: Sequence[Variant], found: dict[str, Measurement]) -> Iterator[Text]:
    """Why layers were meant to stay above their variant's precision, and why others ran in another than meant."""
    for variant in every:
        reasons: dict[str, list[str]] = {}
        for plan in variant.layers:
            if plan.precision != kernels(variant.precision) or variant.precision == "mixed":
                reasons.setdefault(plan.reason, []).append(plan.name)
        for layer in found[variant.name].fallbacks if variant.name in found else ():
            reasons.setdefault(layer.reason, []).append(layer.name)
        for reason, names in reasons.items():
            yield Text(f"{variant.name}: {', '.join(names)}: {reason}", style="dim")


def _splits(core: Core) -> Table:
    table = _table("split", "samples", "SHA-256", "rows")
    for name, split in core.splits.items():
        table.add_row(name, f"{split.samples:,}", split.sha256[:16], split.rows)
    return table


def _table(first: str, *titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    table.add_column(first, overflow="fold")
    for title in titles:
        left = title in ("", "why left", "rows", "SHA-256")
        table.add_column(title, justify="left" if left else "right", overflow="fold")
    return table
