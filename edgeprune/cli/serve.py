"""`edgeprune serve`: a bundle under a load trace, its precision adapted, beside fixed ones and an oracle."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeprune.cli.output import Output, output_options

if TYPE_CHECKING:
    from edgeprune.serving.contention import Contention
    from edgeprune.serving.trace import Trace


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--trace", required=True, metavar="NAME|FILE", help="steady, step, diurnal, bursty, or a CSV file.")
@click.option("--policy", default="accuracy", show_default=True, metavar="NAME|FILE.py:FN", help="Also: threshold.")
@click.option("--hold", type=click.IntRange(min=1), default=50, show_default=True, help="Requests that a change binds.")
@click.option("--deadline-ms", type=click.FloatRange(min=0, min_open=True), help="[50 inferences of the most precise]")
@click.option("--precision", "precisions", multiple=True, metavar="P", help="A rung; repeat for more.  [all]")
@click.option("--floor", "floors", multiple=True, metavar="CLASS=P", help="Never serve that class below P.")
@click.option("--memory-mb", type=click.FloatRange(min=0, min_open=True), help="What all variants may take together.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of an inference.")
@click.option("--contention", metavar="BEGIN:END[:N]", help="N processes (else one per core) use the processor then.")
@click.option("--phase-seconds", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of a generated trace.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of what is kept.  [build/serve-<bundle>]")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Tell Prometheus, on this machine alone.")
@click.option("--max-missed", type=click.FloatRange(0, 100), metavar="PCT", help="End with 3 where more are late.")
@output_options
def serve(
    bundle: Path,
    trace: str,
    policy: str,
    hold: int,
    deadline_ms: float | None,
    precisions: tuple[str, ...],
    floors: tuple[str, ...],
    memory_mb: float | None,
    threads: int,
    contention: str | None,
    phase_seconds: float,
    seed: int,
    out: Path | None,
    metrics_port: int | None,
    max_missed: float | None,
    output: Output,
) -> None:
    """Serve a bundle under a load, in the precision that it allows.

    The trace is replayed open-loop, latency counted from each scheduled arrival: with every precision fixed, then with
    the policy; last an oracle that knows the trace says what was possible. Rates of a generated trace follow from what
    the variants take, so that the most precise alone misses deadlines.

    Keeps <trace>.json (all numbers), .jsonl (every 0.1 s of every run), .csv (the trace), .html (the plot), .prom.
    """
    from edgeprune.registry import require

    require("matplotlib", extra="compile")
    from edgeprune.bundle import open_bundle
    from edgeprune.errors import BudgetError
    from edgeprune.pipeline.serving import (
        added_bytes,
        capacity,
        compare,
        inputs,
        open_session,
        policy_named,
        sampler_of,
    )
    from edgeprune.report.serving import keep, table
    from edgeprune.serving.exposition import Endpoint, exposition
    from edgeprune.serving.series import series
    from edgeprune.serving.trace import generate, write_trace

    opened = open_bundle(bundle)
    recorded = _recorded(trace)
    disturbed = _contention(contention)
    chosen, least = policy_named(policy), _floors(floors)
    with ExitStack() as stack:
        sampler, power = sampler_of(opened)
        session = stack.enter_context(
            open_session(
                opened,
                chosen,
                precisions=precisions,
                deadline_ms=deadline_ms,
                hold=hold,
                floors=least,
                memory_mb=memory_mb,
                threads=threads,
                sampler=sampler,
            )
        )
        replayed = recorded or generate(trace, capacity(session, inputs(opened)), phase_s=phase_seconds, seed=seed)
        if metrics_port is not None:
            port = stack.enter_context(Endpoint(session, metrics_port)).port
            click.echo(f"metrics: http://127.0.0.1:{port}/metrics", err=True)
        progress = stack.enter_context(output.progress())
        name = f"{policy} (hold {hold})"
        found = compare(
            session,
            replayed,
            {name: (chosen, hold)},
            inputs(opened),
            contention=disturbed,
            sampler=sampler,
            progress=progress,
        )
        metrics = exposition(session, session.sample)
        summary = {
            "bundle": str(bundle),
            "power": power,
            "added_bytes": added_bytes(opened, session),
            **found.summary(),
        }
    rows = {arm: list(series(run)) for arm, run in found.runs.items()}
    folder = out or Path("build") / f"serve-{bundle.resolve().name}"
    kept = keep(folder, summary, rows, metrics)
    write_trace(replayed, kept.with_suffix(".csv"))
    output.show(summary, table(summary), *(f"{text}\n" for text in session.failures), f"kept in {kept}")
    missed = summary["runs"][name]["missed_percent"]
    if max_missed is not None and missed > max_missed:
        raise BudgetError(f"{name}: {missed:.2f} % of the requests missed their deadline, {max_missed:g} % allowed")


def _recorded(name: str) -> Trace | None:
    """The trace of a file; None for one that is generated, once it is known what the machine gets through."""
    from edgeprune.registry import unknown
    from edgeprune.serving.trace import GENERATED, read_trace

    if name in GENERATED:
        return None
    if not Path(name).suffix:
        raise unknown("trace", name, GENERATED)
    return read_trace(Path(name))


def _floors(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := [name for name, _, precision in pairs if not (name and precision)]:
        raise click.UsageError(f"--floor {wrong[0]}: write CLASS=PRECISION, e.g. alarm=fp32")
    return {name: precision for name, _, precision in pairs}


def _contention(text: str | None) -> Contention | None:
    from edgeprune.serving.contention import Contention

    if text is None:
        return None
    parts = text.split(":")
    try:
        begin_s, end_s = float(parts[0]), float(parts[1])
        processes = int(parts[2]) if len(parts) > 2 else len(os.sched_getaffinity(0))
    except (ValueError, IndexError):
        raise click.UsageError(f"--contention {text}: write BEGIN:END or BEGIN:END:PROCESSES, e.g. 5:10:2") from None
    if not (0 <= begin_s < end_s and processes > 0 and len(parts) <= 3):
        raise click.UsageError(f"--contention {text}: it must begin at 0 s or later, end after that, with a process")
    return Contention(begin_s, end_s, processes)
