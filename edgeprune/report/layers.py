"""Every layer of a bundle, and what each variant makes of it: meant, stored, run, timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeprune.bundle import Core, LayerPlan, Variant
from edgeprune.decisions import Predicted
from edgeprune.recipe import kernels
from edgeprune.results import Layer, Measured, Measurement


@dataclass(frozen=True)
class Use:
    """What one variant makes of one layer."""

    meant: str
    """The precision it was to run in."""
    ran: str | None
    """The one it ran in; None where it did not run."""
    reason: str
    """Why it fell back, or why it was not meant to be as narrow as its variant."""
    bits: float | None
    """Of a weight on disk, on average; None where only a measurement is at hand."""
    ms: float | None
    """Of one inference."""

    @property
    def fell_back(self) -> bool:
        """Whether it ran in another precision than meant."""
        return self.ran not in (None, self.meant)


@dataclass(frozen=True)
class LayerRow:
    """One layer, in the order of the network."""

    name: str
    op: str
    weights: int
    """How many numbers; 0 where it is not known."""
    uses: Mapping[str, Use]
    """By variant."""
    losses: Mapping[str, float]
    """By precision: what it was predicted to cost, in nats per sample."""


@dataclass(frozen=True)
class Wider:
    """Layers of one variant that ran, or were meant to, in more bits than its name says, for one reason."""

    variant: str
    layers: tuple[str, ...]
    named: str
    """The variant's precision."""
    became: str
    decided: bool
    """Whether that was decided before; else it came out when it ran."""
    reason: str


def layer_rows(measured: Measured, core: Core | None, predicted: Predicted | None) -> tuple[LayerRow, ...]:
    """All layers that any variant tells of."""
    records = {record.variant: record for record in (measured.baseline, *measured.measurements)}
    plans = {one.name: {plan.name: plan for plan in one.layers} for one in _variants(core)}
    ran = {name: {layer.name: layer for layer in record.layers} for name, record in records.items()}
    known: dict[str, LayerPlan | Layer] = {}
    for plan in (plan for found in plans.values() for plan in found.values()):
        known.setdefault(plan.name, plan)
    for layer in (layer for found in ran.values() for layer in found.values()):
        known.setdefault(layer.name, layer)
    rows = []
    for name, one in known.items():
        uses = {
            variant: use
            for variant in {**plans, **ran}
            if (use := _use(plans.get(variant, {}).get(name), ran.get(variant, {}).get(name))) is not None
        }
        weight, weights = (one.weight, one.weights) if isinstance(one, LayerPlan) else ("", 0)
        losses = predicted.losses.get(weight, {}) if predicted is not None else {}
        rows.append(LayerRow(name, one.op, weights, uses, losses))
    return tuple(rows)


def wider(rows: Sequence[LayerRow], measured: Measured, core: Core | None) -> tuple[Wider, ...]:
    """What did not become as narrow as its variant is called, in the order of the variants, and why."""
    groups: dict[tuple[str, str, str, bool, str], list[str]] = {}
    for variant, precision in _precisions(measured, core).items():
        for row in rows:
            use = row.uses.get(variant)
            if use is None or (not use.fell_back and use.meant == kernels(precision)):
                continue
            key = (variant, precision, use.ran or use.meant, not use.fell_back, use.reason)
            groups.setdefault(key, []).append(row.name)
    return tuple(
        Wider(variant, tuple(names), precision, became, decided, reason)
        for (variant, precision, became, decided, reason), names in groups.items()
    )


def untold(measured: Measured) -> dict[str, str]:
    """By variant whose runtime told nothing of its layers: why."""
    records = (measured.baseline, *measured.measurements)
    return {one.variant: one.unmeasured or "the runtime told no layers" for one in records if not one.layers}


def _precisions(measured: Measured, core: Core | None) -> dict[str, str]:
    every: tuple[Measurement | Variant, ...] = (measured.baseline, *measured.measurements)
    of_records = {one.variant: one.precision for one in every if isinstance(one, Measurement)}
    return of_records | {one.name: one.precision for one in _variants(core)}


def _variants(core: Core | None) -> tuple[Variant, ...]:
    return (core.baseline, *core.variants) if core is not None else ()


def _use(plan: LayerPlan | None, layer: Layer | None) -> Use | None:
    if plan is None and layer is None:
        return None
    meant = layer.intended if layer is not None else plan.precision if plan is not None else ""
    reason = layer.reason if layer is not None else plan.reason if plan is not None else ""
    return Use(
        meant,
        layer.effective if layer is not None else None,
        reason,
        plan.weight_bits if plan is not None else None,
        layer.ms if layer is not None else None,
    )
