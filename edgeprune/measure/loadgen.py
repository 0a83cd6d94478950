"""MLPerf's scenarios, driven by MLCommons LoadGen: it decides when a query is due, and takes its time.

Latencies are LoadGen's own, from its trace: from when a query was due (in `server`) or issued to when all its samples
were answered. Queries are answered in the thread that issues them, one after another, as one device does.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeprune.errors import DeviceError, MissingError
from edgeprune.scenario import Scenario

PACKAGE, EXTRA = "mlcommons-loadgen", "pip install 'edgeprune[loadgen]'"
LIBRARY = 1024
"""Samples that LoadGen believes to choose from; the caller takes its own in turn."""
MOST = 6
"""A test ends after that many times its least duration, whatever number of queries is still missing."""
LEAST_MOST_S = 60.0
SAMPLE = re.compile(r'"ts":(?P<us>[\d.]+),"args":\{.*"query_seq":(?P<query>\d+),.*"complete_ns":(?P<ns>\d+)\}')


@dataclass(frozen=True)
class Driven:
    """What one test found."""

    latencies_ms: tuple[float, ...]
    """Of each query, in the order they were due; empty in `offline`."""
    samples_per_s: float
    """Answered, from the first query's beginning to the last answer."""
    version: str
    """Of LoadGen."""
    invalid: tuple[str, ...]
    """Why LoadGen does not call the test valid; empty where it does."""


def drive(run: Callable[[], object], scenario: Scenario, *, seconds: float, queries: int, expected_ms: float) -> Driven:
    """Test for at least `seconds` and `queries`; `run` answers `scenario.batch` samples, in some `expected_ms`.

    Raises MissingError where LoadGen is not installed, and whatever `run` raises.
    """
    lg = _library()
    failed: list[BaseException] = []

    def issue(asked: list[Any]) -> None:
        for start in range(0, len(asked), scenario.batch):
            part = asked[start : start + scenario.batch]
            # made before, as it would be told as latency: 10 microseconds, in caches that an inference has emptied
            answers = [lg.QuerySampleResponse(one.id, 0, 0) for one in part]
            if not failed:  # an error must not leave through LoadGen's own thread, which would end the process
                try:
                    run()
                except BaseException as error:
                    failed.append(error)
            lg.QuerySamplesComplete(answers)

    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        system = lg.ConstructSUT(issue, _nothing)
        library = lg.ConstructQSL(LIBRARY, LIBRARY, _nothing, _nothing)
        try:
            settings = _settings(lg, scenario, seconds, queries, expected_ms)
            lg.StartTestWithLogSettings(system, library, settings, _log(lg, folder), str(Path(folder) / "none"))
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
        if failed:
            raise failed[0]
        return _read(Path(folder), scenario)


def _library() -> Any:
    try:
        import mlperf_loadgen
    except ImportError as error:
        raise MissingError(f"LoadGen is missing ({error}): {EXTRA}; it has wheels for x86-64 Linux") from error
    return mlperf_loadgen


def _nothing(*_: object) -> None:
    """LoadGen asks to load samples and to flush queries: all are loaded, and none is held back."""


def _settings(lg: Any, scenario: Scenario, seconds: float, queries: int, expected_ms: float) -> Any:
    settings = lg.TestSettings()
    settings.mode = lg.TestMode.PerformanceOnly
    settings.scenario = {
        "single-stream": lg.TestScenario.SingleStream,
        "multi-stream": lg.TestScenario.MultiStream,
        "server": lg.TestScenario.Server,
        "offline": lg.TestScenario.Offline,
    }[scenario.name]
    settings.min_duration_ms = max(1, round(1e3 * seconds))
    settings.max_duration_ms = round(1e3 * max(MOST * seconds, LEAST_MOST_S))
    settings.min_query_count = queries
    # it makes as many queries beforehand as it expects to need, and stops without one: so half of what is expected
    query_ns = max(1, round(1e6 * expected_ms / scenario.batch * scenario.samples_per_query / 2))
    settings.single_stream_expected_latency_ns = settings.multi_stream_expected_latency_ns = query_ns
    settings.multi_stream_samples_per_query = scenario.samples_per_query
    settings.offline_expected_qps = 1e3 * scenario.batch / expected_ms
    if scenario.queries_per_s is not None and scenario.deadline_ms is not None:
        settings.server_target_qps = scenario.queries_per_s
        settings.server_target_latency_ns = round(1e6 * scenario.deadline_ms)
        settings.server_target_latency_percentile = 0.99
    return settings


def _log(lg: Any, folder: str) -> Any:
    output = lg.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = folder, False
    settings = lg.LogSettings()
    settings.log_output, settings.enable_trace = output, True
    return settings


def _read(folder: Path, scenario: Scenario) -> Driven:
    """What LoadGen logged: a JSON line per result, and in the trace when each sample was due and answered."""
    prefix = ":::MLLOG "
    lines = (folder / "mlperf_log_detail.txt").read_text(encoding="utf-8").splitlines()
    logged = {one["key"]: one["value"] for one in (json.loads(line.removeprefix(prefix)) for line in lines)}
    with (folder / "mlperf_log_trace.json").open(encoding="utf-8") as trace:
        matches = filter(None, map(SAMPLE.search, trace))
        found = [(1e3 * float(one["us"]), int(one["query"]), int(one["ns"])) for one in matches]
    if not found:
        raise DeviceError(f"{scenario}: LoadGen {logged.get('loadgen_version')} logged no query")
    latency_ns: dict[int, int] = {}
    for _, query, ns in found:
        latency_ns[query] = max(ns, latency_ns.get(query, 0))
    took_ns = max(begin + ns for begin, _, ns in found) - min(begin for begin, _, _ in found)
    latencies = [round(ns * 1e-6, 6) for _, ns in sorted(latency_ns.items())]
    return Driven(
        tuple(latencies if scenario.has_latency else ()),
        len(found) / (took_ns * 1e-9),
        str(logged["loadgen_version"]).partition(" ")[0] or metadata.version(PACKAGE),
        tuple(_invalid(logged)),
    )


def _invalid(logged: dict[str, Any]) -> list[str]:
    if logged["result_validity"] == "VALID":
        return []
    why = {
        "result_min_duration_met": "the least duration is not reached",
        "result_min_queries_met": "the least number of queries is not reached",
        "result_perf_constraints_met": "the deadline is not met by 99 % of the queries",
        "early_stopping_met": "so few queries do not make its percentile sure",
    }
    return [told for key, told in why.items() if logged.get(key) is False] or ["for a reason that it does not log"]
