"""A bundle's measurements as one JSON-ready document: all but the raw samples, which `measured.json` keeps."""

from __future__ import annotations

from typing import Any

from edgeprune.adapter import adapter
from edgeprune.results import Measured, Measurement
from edgeprune.roofline import Peaks


def document(measured: Measured) -> dict[str, Any]:
    """Milliseconds, bytes and fractions, as in `results`; with the percentiles that the samples allow (else null)."""
    records = [_record(record) for record in measured.measurements]
    return {
        "default": measured.default,
        "default_reason": measured.default_reason,
        "baseline": _record(measured.baseline),
        "variants": records,
        "peaks": adapter(Peaks | None).dump_python(measured.peaks, mode="json"),
    }


def _record(record: Measurement) -> dict[str, Any]:
    plain: dict[str, Any] = adapter(Measurement).dump_python(record, mode="json", exclude={"samples_ms", "schema"})
    percentiles = {f"p{q:g}_ms": record.percentile_ms(q) for q in (50.0, 90.0, 99.0)}
    derived = {name: getattr(record, name) for name in ("samples", "throughput", "late", "limit_share")}
    p50 = percentiles["p50_ms"]
    if record.limit is not None and p50 is not None:
        derived |= {"gops": record.limit.gops(p50), "gbytes_per_s": record.limit.gbytes(p50)}
    return plain | percentiles | derived | {"fallbacks": [layer.name for layer in record.fallbacks]}
