"""Measure a bundle on this machine, once per environment, and choose its default variant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from edgeprune.backends.backend import Feeds
from edgeprune.bundle import CORE, MEASURED, REPORT, Bundle
from edgeprune.cache import StageCache
from edgeprune.choose import choose_default
from edgeprune.data.judges import judge
from edgeprune.data.preprocess import feeds, read_preprocess
from edgeprune.data.splits import Splits, resolve_splits
from edgeprune.doctor import installed, overwritten
from edgeprune.errors import DataError
from edgeprune.file_hash import sha256_of
from edgeprune.interleaved.run import measure
from edgeprune.interleaved.settings import EvalSplit, Settings
from edgeprune.latency_table import FILE
from edgeprune.pipeline.foretold import check_table, with_predictions
from edgeprune.pipeline.layer_times import with_layer_times
from edgeprune.pipeline.limits import with_limits
from edgeprune.pipeline.parity import SAMPLES, with_parity
from edgeprune.pipeline.peaks import known_peaks, peaks
from edgeprune.pipeline.places import located_data, located_metric
from edgeprune.progress import SILENT, Progress
from edgeprune.recipe import DataPart, Recipe, read_yaml, validated
from edgeprune.report.html import render
from edgeprune.report.saving import save
from edgeprune.report.source import source_of
from edgeprune.report.summary import environment_of
from edgeprune.results import Environment, Measured, read_measured, write
from edgeprune.targets.target import Target
from edgeprune.transport.local import LocalTransport
from edgeprune.user_code import sources
from edgeprune.worker.probe import probe

CODE = (
    "interleaved",
    "choose",
    "scenario",
    "results",
    "metrics",
    "judge",
    "worker",
    "measure",
    "meters",
    "transport",
    "backends",
    "data",
    "graph",
    "pipeline",
)
"""What decides a measurement."""


def measure_bundle(
    bundle: Bundle,
    *,
    cache: StageCache,
    settings: Settings | None = None,
    data: str | None = None,
    metric: str | None = None,
    against_peaks: bool = False,
    layer_times: bool = False,
    progress: Progress = SILENT,
) -> Measured:
    """Measure every variant beside the baseline and hold it against the float graph (`pipeline.parity`).

    `measured.json` and `report.html` are left in the bundle.

    `data` and `metric` say where the user's own lie now, if not where they were. A measurement is found again only for
    this very bundle in this very environment. Raises DataError where the data at hand are not those that the bundle was
    made with, InputError where they are not at hand. `against_peaks` measures those of this machine, if that was not
    done before, so that each variant's limit can be told; without it they are looked for only. `layer_times` profiles
    the baseline and the default.
    """
    settings = settings or Settings()
    for warning in overwritten(installed):  # then nobody knows which runtime it is that is measured
        progress.say(f"warning: {warning}")
    recipe = validated(Recipe, bundle.core.recipe, str(bundle.root / CORE))
    part = located_data(bundle, data).model_copy(update={"metric": located_metric(bundle, metric)})
    target = read_yaml(bundle.root / "target.yaml", Target)

    def work(folder: Path) -> None:
        splits = same_splits(bundle, part)
        chosen = [evaluation(bundle, splits, name) for name in splits.reported]
        baseline, measured = measure(bundle, target, chosen, settings, transport=LocalTransport(), progress=progress)
        judging = evaluation(bundle, first_of(splits, splits.reported[0], SAMPLES), splits.reported[0])
        baseline, *found = with_parity((baseline, *measured), bundle, target, judging, progress=progress)
        if (bundle.root / FILE).is_file():
            baseline, *found = with_predictions(bundle, check_table(bundle.root / FILE, target), (baseline, *found))
        write(choose_default(baseline, found, recipe.budgets), folder / MEASURED)

    inputs = {
        "bundle": bundle.sha256,
        "environment": TypeAdapter(Environment).validate_python(probe()).fingerprint(),
        "settings": TypeAdapter(Settings).dump_python(settings, mode="json"),
        "metric": [sha256_of(path) for path in sources(part.metric, "metric")] if part.metric else [],
    }
    stage = cache.run("measure", inputs, work, code=CODE, progress=progress)
    measured = read_measured(stage.folder / MEASURED)
    if stage.reused:
        progress.say(f"measure: done before, at {measured.baseline.measured_at}")
    if (environment := environment_of(measured)) is not None:
        known = peaks(target, cache.root, progress=progress) if against_peaks else known_peaks(cache.root, environment)
        measured = with_limits(measured, bundle, known)
        if layer_times and settings.built_in:
            measured = with_layer_times(measured, bundle, environment, cache=cache, progress=progress)
    write(measured, bundle.measured_path)
    save(render([source_of(bundle, measured)]), bundle.root / REPORT)
    return measured


def same_splits(bundle: Bundle, part: DataPart) -> Splits:
    """What judges a bundle, from data that were located. Raises DataError where they are not those of the bundle."""
    splits = resolve_splits(part, trains=False, preprocess=read_preprocess(bundle.root), judges_only=True)
    for name, recorded in bundle.core.splits.items():
        if name in splits.rows and splits.fingerprint(name) != recorded.sha256:
            raise DataError(
                f"{bundle.root}: the {name} samples ({splits.rows[name]}) are not those it was made with: compile again"
            )
    return splits


def first_of(splits: Splits, name: str, count: int) -> Splits:
    """The same with only so many samples in one split, the first."""
    rows, digests, left_out = splits.rows[name], splits.digests[name], splits.left_out.get(name, frozenset())
    kept = [row for row in range(len(digests) + len(left_out)) if row not in left_out][:count]
    return replace(
        splits,
        rows={**splits.rows, name: rows.model_copy(update={"stop": rows.start + kept[-1] + 1})},
        digests={**splits.digests, name: digests[: len(kept)]},
        left_out={**splits.left_out, name: frozenset(row for row in left_out if row <= kept[-1])},
    )


def evaluation(bundle: Bundle, splits: Splits, name: str) -> EvalSplit:
    """A split as `bench` wants it; without a judge where nothing can be said of the answers."""

    def batches() -> Iterator[Feeds]:
        for part in splits.batches(name):
            yield feeds(bundle.core.inputs, splits.preprocess(part.columns), splits.info.name)

    return EvalSplit(name, batches, judge(splits, name, bundle.core.task))
