"""What each variant of a bundle would take at the limits of this machine, and should take of energy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from edgeprune.bundle import Bundle
from edgeprune.energy_estimate import estimated_joules
from edgeprune.errors import EdgePruneError
from edgeprune.graph.operators import Operator, operators
from edgeprune.pipeline.operators import precisions, timed_graph
from edgeprune.results import Measured, Measurement
from edgeprune.roofline import Part, Peaks, limit


def with_limits(measured: Measured, bundle: Bundle, peaks: Peaks | None) -> Measured:
    """The same with each variant's limit, where the peaks are known, and its estimated energy.

    A variant whose graph cannot be counted, or that was not measured here, has neither.
    """
    baseline, *others = [_with_limit(one, bundle, peaks) for one in (measured.baseline, *measured.measurements)]
    return replace(measured, baseline=baseline, measurements=tuple(others), peaks=peaks)


def _with_limit(record: Measurement, bundle: Bundle, peaks: Peaks | None) -> Measurement:
    if record.unmeasured:
        return record
    variant = bundle.variant(record.variant)
    try:
        graph = operators(timed_graph(bundle, variant))
    except EdgePruneError:
        return record
    ran = precisions(variant, record.layers, graph)
    network_bytes = sum(one.weight_bytes(ran[one.name]) for one in graph)
    work = list(_parts(graph, ran))
    least = None if peaks is None else limit(work, peaks, network_bytes)
    return replace(record, limit=least, estimated_joules=estimated_joules(work))


def _parts(graph: Sequence[Operator], ran: Mapping[str, str]) -> Iterator[Part]:
    """What each operator has to do, in the precision that it runs in."""
    for one in graph:
        precision = ran[one.name]
        weights = one.weight_bytes(precision)
        yield Part(2 * one.macs, weights, one.work(precision).bytes - weights, precision)
