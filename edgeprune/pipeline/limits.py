"""What each variant of a bundle would take at the limits of this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from edgeprune.bundle import Bundle
from edgeprune.errors import EdgePruneError
from edgeprune.graph.operators import Operator, operators
from edgeprune.pipeline.operators import precisions, timed_graph
from edgeprune.results import Measured, Measurement
from edgeprune.roofline import Part, Peaks, limit


def with_limits(measured: Measured, bundle: Bundle, peaks: Peaks) -> Measured:
    """The same with each variant's limit; one whose graph cannot be counted, or that was not timed, has none."""
    baseline, *others = [_with_limit(one, bundle, peaks) for one in (measured.baseline, *measured.measurements)]
    return replace(measured, baseline=baseline, measurements=tuple(others))


def _with_limit(record: Measurement, bundle: Bundle, peaks: Peaks) -> Measurement:
    if record.unmeasured:
        return record
    variant = bundle.variant(record.variant)
    try:
        graph = operators(timed_graph(bundle, variant))
    except EdgePruneError:
        return record
    ran = precisions(variant, record.layers, graph)
    network_bytes = sum(one.weight_bytes(ran[one.name]) for one in graph)
    return replace(record, limit=limit(list(parts(graph, ran)), peaks, network_bytes))


def parts(graph: Sequence[Operator], ran: Mapping[str, str]) -> Iterable[Part]:
    """What each operator has to do, in the precision that it runs in."""
    for one in graph:
        precision = ran[one.name]
        weights = one.weight_bytes(precision)
        yield Part(2 * one.macs, weights, one.work(precision).bytes - weights, precision)
