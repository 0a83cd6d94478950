"""Measure a bundle under one of MLPerf's scenarios: what LoadGen asks, on this machine."""

from __future__ import annotations

from dataclasses import replace

from edgeprune.bundle import Bundle
from edgeprune.errors import InputError, MissingError
from edgeprune.interleaved.run import measure
from edgeprune.interleaved.settings import Settings
from edgeprune.pipeline.compare import sample_inputs
from edgeprune.progress import SILENT, Progress
from edgeprune.recipe import read_yaml
from edgeprune.results import SAMPLES_FOR_PERCENTILE, Measured
from edgeprune.scenario import LOADGEN, PERCENTILE, STREAMS, Scenario
from edgeprune.targets.target import Target
from edgeprune.transport.local import LocalTransport

SETTINGS = Settings(seconds=3.0, judged=False)
LOAD = 0.5
"""Share of what the baseline can answer that arrives, unless told otherwise."""


def measure_scenario(
    bundle: Bundle,
    name: str,
    *,
    queries_per_s: float | None = None,
    deadline_ms: float | None = None,
    batch: int = 1,
    settings: Settings = SETTINGS,
    data: str | None = None,
    progress: Progress = SILENT,
) -> Measured:
    """Every variant and the baseline, all under the same load; answers are not judged, and no default is chosen.

    Raises MissingError where the bundle is for another device or LoadGen is not here, InputError where `server` has no
    deadline, ConfigError for a load that cannot be made.
    """
    target = read_yaml(bundle.root / "target.yaml", Target)
    if not target.local:
        raise MissingError(f"{bundle.root}: is for {target.name}, which is not this machine: bench it there")
    inputs = [sample_inputs(bundle, data, max(batch, STREAMS))]
    if name == "server":
        deadline_ms = deadline_ms or bundle.core.budgets.get("max_latency_ms")
        if deadline_ms is None:
            raise InputError("scenario server: by when must a query be answered? --deadline-ms says it")
        if queries_per_s is None:
            alone = replace(bundle, core=replace(bundle.core, variants=()))
            brief = Settings(restarts=1, judged=False, energy_s=0)
            first, _ = measure(alone, target, inputs, brief, transport=LocalTransport())
            queries_per_s = LOAD * 1e3 / (first.percentile_ms(50) or 1e3)
    scenario = Scenario(name, LOADGEN, STREAMS if name == "multi-stream" else 1, batch, queries_per_s, deadline_ms)
    queries = SAMPLES_FOR_PERCENTILE[PERCENTILE[name]]
    loaded = replace(settings, scenario=scenario, queries=queries)
    baseline, found = measure(bundle, target, inputs, loaded, transport=LocalTransport(), progress=progress)
    return Measured(None, "it is chosen by what single-stream finds", baseline, found)
