"""What each layer of the baseline and of the default variant takes of an inference, by the runtime's own profile."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgeprune.bundle import Bundle
from edgeprune.cache import StageCache
from edgeprune.errors import EdgePruneError
from edgeprune.pipeline.operators import OperatorSettings, operator_shares
from edgeprune.progress import SILENT, Progress
from edgeprune.results import Environment, Measured, Measurement

SHARES = "shares.json"
BRIEF = OperatorSettings(restarts=2, seconds=0.4)
CODE = ("worker", "backends", "graph", "transport", "pipeline")


def with_layer_times(
    measured: Measured, bundle: Bundle, environment: Environment, *, cache: StageCache, progress: Progress = SILENT
) -> Measured:
    """The same with the time of each layer of those two; one that cannot be profiled has none, and that is said."""
    drawn = {measured.baseline.variant, measured.default}
    records = [one for one in (measured.baseline, *measured.measurements) if one.variant in drawn and one.samples]

    def work(folder: Path) -> None:
        shares = {}
        for record in records:
            try:
                variant = bundle.variant(record.variant)
                shares[record.variant] = operator_shares(bundle, variant, settings=BRIEF, progress=progress)
            except EdgePruneError as error:
                progress.say(f"profile: {record.variant} has no times by layer: {error}")
        (folder / SHARES).write_text(json.dumps(shares))

    inputs = {
        "bundle": bundle.sha256,
        "environment": environment.fingerprint(),
        "variants": [record.variant for record in records],
    }
    shares = json.loads((cache.run("profile", inputs, work, code=CODE, progress=progress).folder / SHARES).read_bytes())
    baseline, *others = [
        _timed(one, shares.get(one.variant, {})) for one in (measured.baseline, *measured.measurements)
    ]
    return replace(measured, baseline=baseline, measurements=tuple(others))


def _timed(record: Measurement, shares: dict[str, float]) -> Measurement:
    """A layer is called as its operator is, with which what runs along is counted."""
    p50 = record.percentile_ms(50)
    if p50 is None:
        return record
    layers = (replace(one, ms=p50 * shares[one.name] if one.name in shares else None) for one in record.layers)
    return replace(record, layers=tuple(layers))
