"""`edgeprune bench`: measure bundles on this machine, and keep what was found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeprune.cli.output import OneOf, Output, output_options
from edgeprune.scenario import SCENARIOS

if TYPE_CHECKING:
    from edgeprune.bundle import Bundle
    from edgeprune.pipeline.compare import Comparison

IDLE = {
    "--scenario": (
        ("--noise-floor", "--operators", "--compare", "--resume", "--metric", "--fail-if-slower"),
        "lets LoadGen ask, and judges no answers",
    ),
    "--noise-floor": (
        ("--operators", "--compare", "--resume", "--metric", "--fail-if-slower", "--out"),
        "compares a bundle with itself",
    ),
    "--operators": (("--compare", "--resume", "--metric", "--data", "--fail-if-slower"), "times operators alone"),
    "--compare": (("--resume", "--metric", "--out"), "judges no answers, and keeps no results"),
}
"""Of each kind of measurement the options that would change nothing, and why."""


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...", type=click.Path(path_type=Path))
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Timed per variant and restart.")
@click.option("--restarts", type=click.IntRange(min=1), help="Processes per variant.")
@click.option("--out", type=click.Path(path_type=Path), show_default="bench_results")
@click.option("--data", metavar="DIR", help="Where the data of the bundles are, if not where they were.")
@click.option("--metric", metavar="FILE.py:FN", help="Where the metric is, if not where it was.")
@click.option("--scenario", type=OneOf("scenario", SCENARIOS), help="Let LoadGen ask: one of MLPerf's scenarios.")
@click.option("--qps", type=click.FloatRange(min=0, min_open=True), help="Queries a second that arrive in `server`.")
@click.option("--deadline-ms", type=click.FloatRange(min=0, min_open=True), help="Of a query in `server`.")
@click.option("--batch", type=click.IntRange(min=1), help="Samples at a time in `multi-stream` and `offline`.")
@click.option("--compare", is_flag=True, help="Say whether the second of two is faster than the first, and how sure.")
@click.option("--fail-if-slower", type=click.FloatRange(min=0), metavar="PCT", help="With --compare: end with 3.")
@click.option("--noise-floor", is_flag=True, help="Measure how far apart this machine finds equal programs.")
@click.option("--operators", is_flag=True, help="Time every operator instead, into <out>/<target>/latency.csv.")
@click.option("--resume", is_flag=True, help="Keep what was measured before on this machine in the same way.")
@output_options
def bench(
    bundles: tuple[Path, ...],
    seconds: float | None,
    restarts: int | None,
    out: Path | None,
    data: str | None,
    metric: str | None,
    scenario: str | None,
    qps: float | None,
    deadline_ms: float | None,
    batch: int | None,
    compare: bool,
    fail_if_slower: float | None,
    noise_floor: bool,
    operators: bool,
    resume: bool,
    output: Output,
) -> None:
    """Measure bundles on this machine.

    Every variant takes turns with its baseline. Writes <out>/<target>/<bundle>.json with the timed samples, and
    <out>/README.md with one table over all that is there.

    With --scenario, MLCommons' LoadGen asks instead of the built-in loop, and what it finds is kept apart, in
    <out>/<target>-<scenario>/: single-stream (one sample after another), multi-stream (queries of 8), server (queries
    arrive at random, --qps of them, by default half of what the baseline can answer; --deadline-ms, by default the
    bundle's latency budget), offline (all at once; --batch at a time).

    With --compare, two bundles, each written DIR or DIR:VARIANT (else its default), take turns in one run that answers
    whether the second is faster; the first takes part twice. What this machine makes of equal programs, in this run and
    in those before it, is its noise floor, below which no difference is told; of a machine that is not known
    yet it is taken to be 1 % at least. --noise-floor measures it, with one bundle, in some minutes; it is kept in the
    cache.

    With --operators, every distinct operator is timed as it runs in the whole network; <out>/<target>/latency.csv keeps
    the times of all bundles that were measured so in one environment, and foretells what others take.
    """
    loads: dict[str, object] = {"--qps": qps, "--deadline-ms": deadline_ms, "--batch": batch}
    others: dict[str, object] = {"--scenario": scenario, "--noise-floor": noise_floor, "--operators": operators}
    others |= {"--compare": compare, "--fail-if-slower": fail_if_slower, "--resume": resume}
    others |= {"--metric": metric, "--data": data, "--out": out}
    _refuse_idle(scenario, loads, others)
    out = out or Path("bench_results")
    if scenario is not None:
        _scenario(bundles, scenario, seconds, restarts, (qps, deadline_ms, batch), out, data, output)
        return
    if operators:
        _operators(bundles, seconds, restarts, out, output)
        return
    if noise_floor:
        _noise_floor(bundles, seconds, restarts, data, output)
        return
    if fail_if_slower is not None and not math.isfinite(fail_if_slower):
        raise click.UsageError(f"--fail-if-slower {fail_if_slower:g} never fails: give a percentage")
    if compare:
        _compare(bundles, seconds, restarts, fail_if_slower, data, output)
        return
    if fail_if_slower is not None:
        raise click.UsageError("--fail-if-slower needs --compare: only what ran by turns can be told apart")
    from edgeprune.registry import require

    require("jinja2", "matplotlib", extra="compile")
    from dataclasses import replace

    from edgeprune.api import stage_cache
    from edgeprune.bundle import open_bundle
    from edgeprune.interleaved.settings import Settings
    from edgeprune.pipeline.measure import measure_bundle
    from edgeprune.report.bench_results import check_out, keep
    from edgeprune.report.document import document
    from edgeprune.report.tables import page

    usual = Settings()
    settings = replace(usual, seconds=seconds or usual.seconds, restarts=restarts or usual.restarts)
    opened = [open_bundle(path) for path in bundles]
    check_out(opened, out)
    found, pages = [], []
    with output.progress() as progress:
        for bundle in opened:
            measured = measure_bundle(
                bundle,
                cache=stage_cache(again=not resume),
                settings=settings,
                data=data,
                metric=metric,
                against_peaks=True,
                layer_times=True,
                progress=progress,
            )
            kept = keep(measured, bundle.root, out)
            found.append({"bundle": str(bundle.root), "file": str(kept)} | document(measured))
            pages += [page(measured, bundle.core), f"kept in {kept}\n"]
    output.show(found, *pages)


def _refuse_idle(scenario: str | None, loads: Mapping[str, object], others: Mapping[str, object]) -> None:
    """Raise UsageError for an option that would change nothing."""
    known = {"server": ("--qps", "--deadline-ms"), "multi-stream": ("--batch",), "offline": ("--batch",)}
    for name, value in loads.items():
        if value is not None and name not in known.get(scenario or "", ()):
            raise click.UsageError(
                f"{name} has no effect with{f' --scenario {scenario}' if scenario else 'out --scenario'}"
            )
    given = [name for name, value in others.items() if value not in (None, False)]
    for mode, (idle, why) in IDLE.items():
        if mode in given and (first := [name for name in given if name in idle]):
            raise click.UsageError(f"{first[0]} has no effect with {mode}, which {why}")


def _scenario(
    paths: tuple[Path, ...],
    scenario: str,
    seconds: float | None,
    restarts: int | None,
    load: tuple[float | None, float | None, int | None],
    out: Path,
    data: str | None,
    output: Output,
) -> None:
    from dataclasses import replace

    from edgeprune.bundle import open_bundle
    from edgeprune.pipeline.scenario import SETTINGS, measure_scenario
    from edgeprune.report.bench_results import check_out, keep
    from edgeprune.report.document import document
    from edgeprune.report.tables import page

    settings = replace(SETTINGS, seconds=seconds or SETTINGS.seconds, restarts=restarts or SETTINGS.restarts)
    qps, deadline_ms, batch = load
    opened = [open_bundle(path) for path in paths]
    check_out(opened, out, scenario)
    found, pages = [], []
    with output.progress() as progress:
        for bundle in opened:
            measured = measure_scenario(
                bundle,
                scenario,
                queries_per_s=qps,
                deadline_ms=deadline_ms,
                batch=batch or 1,
                settings=settings,
                data=data,
                progress=progress,
            )
            kept = keep(measured, bundle.root, out)
            found.append({"bundle": str(bundle.root), "file": str(kept)} | document(measured))
            pages += [page(measured, bundle.core), f"kept in {kept}\n"]
    output.show(found, *pages)


def _compare(
    named: tuple[Path, ...],
    seconds: float | None,
    restarts: int | None,
    fail_if_slower: float | None,
    data: str | None,
    output: Output,
) -> None:
    if len(named) != 2:
        raise click.UsageError(f"--compare takes two bundles, DIR or DIR:VARIANT: {len(named)} given")
    from dataclasses import asdict, replace

    from edgeprune.api import chosen_variant, stage_cache
    from edgeprune.pipeline.compare import SETTINGS
    from edgeprune.pipeline.compare import compare as compared

    usual = SETTINGS
    settings = replace(usual, seconds=seconds or usual.seconds, restarts=restarts or usual.restarts)
    (a, of_a), (b, of_b) = (_named(path) for path in named)
    with output.progress() as progress:
        found = compared(
            a,
            chosen_variant(a, of_a),
            b,
            chosen_variant(b, of_b),
            noise_root=stage_cache().root,
            settings=settings,
            data=data,
            progress=progress,
        )
    speedup, control = found.speedup, found.control
    output.show(
        {**asdict(found), "noise": found.noise, "verdict": found.verdict},
        f"A {found.a}: {found.p50_ms[0]:.4f} ms",
        f"B {found.b}: {found.p50_ms[1]:.4f} ms",
        f"B is {speedup.estimate:.3f}x as fast as A [{speedup.low:.3f}, {speedup.high:.3f}]: {found.verdict}",
        f"control, A beside itself in the same run: {control.estimate:.3f}x [{control.low:.3f}, {control.high:.3f}]",
        f"noise: {100 * found.noise:.1f} %, {_known(found)}",
        *dict.fromkeys(warning for one in found.measurements for warning in one.warnings),
    )
    if fail_if_slower is not None:
        found.check(fail_if_slower)


def _known(found: Comparison) -> str:
    if not found.floor_known:
        assumed = f"with a floor of {100 * found.floor:.1f} %, assumed"
        return f"{assumed}: `edgeprune bench A --noise-floor` measures that of this machine"
    return f"with the floor of this machine, {100 * found.floor:.1f} %"


def _noise_floor(
    paths: tuple[Path, ...], seconds: float | None, restarts: int | None, data: str | None, output: Output
) -> None:
    if len(paths) != 1:
        raise click.UsageError(f"--noise-floor takes one bundle, DIR or DIR:VARIANT: {len(paths)} given")
    from dataclasses import asdict, replace

    from edgeprune.api import chosen_variant, stage_cache
    from edgeprune.noise import ASSUMED, ENOUGH
    from edgeprune.pipeline.compare import SETTINGS, measure_noise

    settings = replace(SETTINGS, seconds=seconds or SETTINGS.seconds, restarts=restarts or SETTINGS.restarts)
    bundle, variant = _named(paths[0])
    with output.progress() as progress:
        noise, path = measure_noise(
            bundle,
            chosen_variant(bundle, variant),
            noise_root=stage_cache().root,
            settings=settings,
            data=data,
            progress=progress,
        )
    found = " ".join(f"{ratio:.3f}" for ratio in noise.controls)
    output.show(
        {**asdict(noise), "floor": noise.floor, "known": noise.known, "file": str(path)},
        f"noise floor of this machine: {100 * noise.floor:.2f} %, of {len(noise.controls)} controls: {found}",
        *([] if noise.known else [f"{ENOUGH} make it known; until then {100 * ASSUMED:g} % are assumed at least"]),
        f"kept in {path}",
    )


def _operators(paths: tuple[Path, ...], seconds: float | None, restarts: int | None, out: Path, output: Output) -> None:
    from dataclasses import asdict, replace

    from edgeprune.api import stage_cache
    from edgeprune.bundle import open_bundle
    from edgeprune.pipeline.operators import OperatorSettings, keep_operators, target_of
    from edgeprune.pipeline.peaks import peaks
    from edgeprune.report.operators import operator_page

    usual = OperatorSettings()
    settings = replace(usual, seconds=seconds or usual.seconds, restarts=restarts or usual.restarts)
    opened = [open_bundle(path) for path in paths]
    documents, pages = [], []
    with output.progress() as progress:
        for bundle in opened:
            file, found = keep_operators(bundle, out, settings=settings, progress=progress)
            most = peaks(target_of(bundle, here=True), stage_cache().root, progress=progress)
            for variant, before in found:
                told = {**asdict(variant), "predicted": asdict(before) if before else None}
                told["limits"] = [asdict(one) for one in variant.limits(most)]
                documents.append({"bundle": str(bundle.root), "file": str(file), **told})
                pages.append(operator_page(variant, before, most))
            pages.append(f"kept in {file}\n")
    output.show(documents, *pages)


def _named(path: Path) -> tuple[Bundle, str | None]:
    """The bundle of DIR or DIR:VARIANT, and the variant."""
    from edgeprune.bundle import open_bundle

    folder, _, variant = (str(path), "", "") if path.is_dir() else str(path).rpartition(":")
    return open_bundle(Path(folder or path)), variant or None
