"""`edgeprune lab`: many devices, what they are like, what bundles do on them, and how that has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprune.cli.job_options import job_options
from edgeprune.cli.output import Output, output_options

if TYPE_CHECKING:
    from edgeprune.lab.tables import Row

OUT = Path("lab_results")
FORMATS = ("markdown", "csv", "parquet", "json")


def _lab_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--lab", "file", type=click.Path(path_type=Path), default=Path("lab.yaml"), show_default=True, metavar="FILE",
        help="The inventory.",
    )(command)  # fmt: skip


def _devices_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--devices", metavar="NAME|TAG|GROUP,...", default="", help="Which of them.  [default: all]"
    )(command)  # fmt: skip


def _out_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--out", type=click.Path(path_type=Path), default=OUT, show_default=True, metavar="DIR",
        help="The journal and the results.",
    )(command)  # fmt: skip


@click.group()
def lab() -> None:
    """Measure bundles on many devices over SSH, and tell what came of it.

    Devices stand in an inventory, lab.yaml. They need Python 3.10, NumPy and a runtime; nothing is installed there.
    """


@lab.command("list")
@_lab_option
@_devices_option
@output_options
def list_(file: Path, devices: str, output: Output) -> None:
    """List the devices of the inventory."""
    from rich.table import Table

    from edgeprune.lab.inventory import read_lab

    opened = read_lab(file)
    found = opened.select(_names(devices))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("name", "target", "reached by", "tags", "groups"):
        table.add_column(title)
    for one in found:
        groups = [name for name in opened.groups if one in opened.select([name])]
        address = {"ssh": one.device.address, "labgrid": one.device.place or one.name}.get(one.device.transport, "")
        reached = f"{one.device.transport} {address}".strip()
        table.add_row(one.name, one.target.name, reached, ", ".join(one.device.tags), ", ".join(groups))
    documents = [one.device.model_dump(mode="json", exclude_defaults=True) for one in found]
    output.show(documents, table)


@lab.command()
@_lab_option
@_devices_option
@_out_option
@output_options
def check(file: Path, devices: str, out: Path, output: Output) -> None:
    """Look whether devices can be measured on, and say how to put right what is wrong.

    A device that another collector holds is left in peace. Ends with 5 where one cannot be measured on.
    """
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import asdict

    from edgeprune.errors import DeviceError
    from edgeprune.lab.check import check as check_
    from edgeprune.lab.connect import DEVICES
    from edgeprune.lab.inventory import read_lab
    from edgeprune.lab.pages import health_lines

    found = read_lab(file).select(_names(devices))
    with output.progress() as progress, progress.task("check", len(found)) as task, ThreadPoolExecutor(32) as pool:
        healths = []
        for health in pool.map(lambda one: check_(one, out / DEVICES), found):
            healths.append(health)
            task.advance(note=f"{health.name}: {health.state}")
    output.show([asdict(health) for health in healths], *(line for one in healths for line in health_lines(one)))
    if faulty := [one.name for one in healths if one.state == "faulty"]:
        raise DeviceError(f"{len(faulty)} of {len(healths)} devices cannot be measured on: {', '.join(faulty)}")


@lab.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...", type=click.Path(path_type=Path))
@_lab_option
@_devices_option
@_out_option
@click.option("--eval", "samples", type=click.IntRange(min=1), metavar="N", help="Have devices answer N samples.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Timed per variant and restart.")
@click.option("--restarts", type=click.IntRange(min=1), help="Processes per variant.")
@click.option("--limit", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Seconds for one job.")
@click.option("--wait", type=click.FloatRange(min=0), metavar="S", help="Seconds to wait for a device in use.")
@click.option("--attempts", type=click.IntRange(min=1), help="How often a job is tried.")
@click.option("--at-once", type=click.IntRange(min=1), metavar="N", help="Devices at once.")
@click.option("--again", is_flag=True, help="Begin anew, even where a collection was interrupted.")
@click.option("--retry", is_flag=True, help="Go on with the last collection, with what failed in it.")
@click.option("--data", metavar="DIR", help="With --eval: where the data of the bundles are, if not where they were.")
@click.option("--metric", metavar="FILE.py:FN", help="With --eval: where the metric is, if not where it was.")
@output_options
def collect(
    bundles: tuple[Path, ...],
    file: Path,
    devices: str,
    out: Path,
    samples: int | None,
    seconds: float | None,
    restarts: int | None,
    limit: float | None,
    wait: float | None,
    attempts: int | None,
    at_once: int | None,
    again: bool,
    retry: bool,
    data: str | None,
    metric: str | None,
    output: Output,
) -> None:
    """Measure bundles on devices.

    Each bundle goes to every device of the type that it is for. One that fails is a row with the reason, and the others
    go on; then the command ends with 5. After any interruption the same command goes on where it stopped.

    <out>/journal.sqlite keeps all of it, <out>/<device>/<bundle>.json the last of each, for `edgeprune report`.
    """
    if again and retry:
        raise click.UsageError("--again begins anew and --retry goes on: give one of them")
    if samples is None and (data is not None or metric is not None):
        raise click.UsageError("--data and --metric have no effect without --eval: devices answer no samples")
    from edgeprune.registry import require

    require("jinja2", "matplotlib", extra="compile")
    from dataclasses import asdict, replace

    from edgeprune.bundle import open_bundle
    from edgeprune.errors import DeviceError
    from edgeprune.interleaved.settings import Settings
    from edgeprune.lab.collect import Collector, CollectSettings, planned
    from edgeprune.lab.export import export
    from edgeprune.lab.inventory import read_lab
    from edgeprune.lab.journal import FAILED, Journal
    from edgeprune.lab.measure import EvaluationSet
    from edgeprune.lab.tables import rows, to_markdown

    instances = read_lab(file).select(_names(devices))
    opened = [open_bundle(path) for path in bundles]
    jobs = planned(instances, opened)
    usual, usually = Settings(), CollectSettings()
    settings = CollectSettings(
        measure=replace(usual, seconds=seconds or usual.seconds, restarts=restarts or usual.restarts),
        at_once=at_once or usually.at_once,
        limit_s=limit or usually.limit_s,
        wait_s=usually.wait_s if wait is None else wait,
        attempts=attempts or usually.attempts,
    )
    with output.progress() as progress, Journal(out) as journal:
        sets = {one.sha256: EvaluationSet(one, samples, data, metric) for one in opened} if samples else {}
        run = journal.begin(jobs, f"{asdict(settings.measure)} {samples}", again=again, retry=retry)
        progress.say(f"run {run}: {len(jobs)} jobs on {len({job.device for job in jobs})} devices")
        collector = Collector(
            journal,
            out,
            settings,
            {one.sha256: one for one in opened},
            {sha256: one.split for sha256, one in sets.items()},
            progress,
        )
        try:
            collector.collect(run, instances)
        finally:
            export(journal, run, out)
        found = list(rows(journal, run=run))
        failed = [one for one in journal.records(run=run) if one.state == FAILED]
    output.show({"run": run, "rows": [asdict(one) for one in found]}, to_markdown(found), f"kept in {out}, run {run}")
    if failed:
        first = failed[0]
        told = f"{len(failed)} of {len(jobs)} jobs failed; the first: {first.job.device}: {first.reason}"
        raise DeviceError(f"{told} (again with --retry)")


@lab.command("compile")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--targets", required=True, metavar="NAME,...", help="Device types.")
@click.option("--scheduler", required=True, metavar="ADDRESS", help="Of Dask: tcp://127.0.0.1:8786, tls://HOST:8786.")
@click.option("--tls-ca", type=click.Path(path_type=Path), metavar="FILE", help="Whose certificates are believed.")
@click.option("--tls-cert", type=click.Path(path_type=Path), metavar="FILE", help="Our certificate.")
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="The key to it.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
@click.option("--backend", "backends", multiple=True, metavar="NAME", help="Runtime; repeat for more.  [all]")
@job_options("data", "recipe", "pruner", "keep", "precision", "epochs", "seed")
@click.option("--max-drop", type=float, metavar="POINTS", help="Of accuracy that may be lost.  [1.0]")
@click.option("--speed-only", is_flag=True, help="Leave the weights untrained; nothing is said of accuracy.")
@output_options
def compile_(
    models: tuple[str, ...],
    targets: str,
    scheduler: str,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    out: Path,
    backends: tuple[str, ...],
    recipe: str | None,
    speed_only: bool,
    output: Output,
    **options: Any,
) -> None:
    """Compile many models for many device types, on the hosts of a Dask cluster.

    Each becomes a bundle, <out>/<model>-<target>, as `edgeprune compile` makes it. What cannot be compiled is told with
    its reason, the others go on, and the command ends as the first failure would. Devices are touched by `lab collect`
    alone. Anything but this machine is reached by TLS only, for who can talk to a scheduler can run code on its hosts.
    """
    from edgeprune.registry import require

    require("distributed", extra="lab")
    from dataclasses import asdict

    from edgeprune.lab.spread import Tls, compile_many

    tls = Tls(tls_ca, tls_cert, tls_key) if tls_ca and tls_cert and tls_key else None
    with output.progress() as progress:
        found = compile_many(
            models, _names(targets), options, scheduler=scheduler, tls=tls, out=out, recipe=recipe,
            backends=backends, speed_only=speed_only, progress=progress,
        )  # fmt: skip
    output.show(
        [{**asdict(one), "bundle": str(one.bundle) if one.bundle else None, "error": one.reason} for one in found],
        *(f"{one.model} for {one.target}: {one.bundle or 'no bundle'}{one.told}" for one in found),
    )
    if failed := [one.error for one in found if one.error is not None]:
        raise failed[0]


@lab.command()
@_out_option
@click.option("--run", type=int, metavar="N", help="Of this run.  [default: the last of each row]")
@click.option("--device", metavar="NAME", help="The history of one device: every run, the first first.")
@click.option("--since", type=int, metavar="N", help="What has changed since this run.")
@click.option("--runs", is_flag=True, help="List the runs instead.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="What is written.  [default: as -o ends]")
@click.option("-o", "--output", "goal", type=click.Path(path_type=Path), metavar="FILE", help="Write it there.")
@output_options
def table(
    out: Path,
    run: int | None,
    device: str | None,
    since: int | None,
    runs: bool,
    kind: str | None,
    goal: Path | None,
    output: Output,
) -> None:
    """Show what was collected: device x model x variant.

    Latency is in milliseconds at the 50th and 99th percentile, memory at its peak, energy per inference. `judged on`
    says whether the device itself answered the samples of the accuracy, or the host.
    """
    if since is not None and (run is not None or device is not None or runs):
        raise click.UsageError("--since compares everything with a run: give it alone")
    from dataclasses import asdict

    from edgeprune.errors import InputError
    from edgeprune.lab.journal import FILE, Journal
    from edgeprune.lab.pages import change_lines, run_lines
    from edgeprune.lab.tables import changes, latest, rows

    if not (out / FILE).is_file():
        raise InputError(f"{out}: nothing collected here: run `edgeprune lab collect`, or name it with --out DIR")
    with Journal(out) as journal:
        if runs:
            listed = journal.runs()
            output.show([asdict(one) for one in listed], *run_lines(listed))
            return
        if since is not None:
            before = list(rows(journal, run=journal.known(since)))
            later = latest(one for one in rows(journal) if one.run > since)
            found = changes(before, later)
            output.show([asdict(one) for one in found], *change_lines(found, since))
            return
        every = rows(journal, run=None if run is None else journal.known(run), device=device)
        chosen = list(every) if run is not None or device is not None else latest(every)
    if not chosen:
        raise InputError(f"{out}: nothing collected{f' on {device}' if device else ''} yet")
    _write(chosen, kind, goal, output)


@lab.command()
@_lab_option
@click.option("--device", required=True, metavar="NAME", help="Of the inventory.")
@click.option("--for", "bundles", multiple=True, required=True, metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("bench_results"), show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Timed per variant and restart.")
@click.option("--restarts", type=click.IntRange(min=1), help="Processes per variant.")
@click.option("--limit", type=click.FloatRange(min=0, min_open=True), default=1800.0, metavar="S", show_default=True)
@output_options
def operators(
    file: Path,
    device: str,
    bundles: tuple[Path, ...],
    out: Path,
    seconds: float | None,
    restarts: int | None,
    limit: float,
    output: Output,
) -> None:
    """Time every operator of a bundle on a device, into <out>/<target>/latency.csv.

    Beside what each variant takes stands what the table foretold of it before.
    """
    from edgeprune.registry import require

    require("onnx_ir", extra="compile")
    from dataclasses import asdict, replace

    from edgeprune.bundle import open_bundle
    from edgeprune.lab.connect import DEVICES
    from edgeprune.lab.inventory import read_lab
    from edgeprune.lab.operators import operators_on
    from edgeprune.pipeline.operators import OperatorSettings
    from edgeprune.report.operators import operator_page

    usual = OperatorSettings()
    settings = replace(usual, seconds=seconds or usual.seconds, restarts=restarts or usual.restarts)
    instance = read_lab(file).one(device)
    documents, pages = [], []
    with output.progress() as progress:
        for bundle in [open_bundle(path) for path in bundles]:
            kept, found = operators_on(
                instance, bundle, out, state=OUT / DEVICES, settings=settings, limit_s=limit, progress=progress
            )
            for variant, before in found:
                told = {**asdict(variant), "predicted": asdict(before) if before else None}
                documents.append({"device": device, "bundle": str(bundle.root), "file": str(kept), **told})
                pages.append(operator_page(variant, before))
            pages.append(f"kept in {kept}\n")
    output.show(documents, *pages)


def _names(given: str) -> tuple[str, ...]:
    return tuple(name for name in given.split(",") if name)


def _write(chosen: Sequence[Row], kind: str | None, goal: Path | None, output: Output) -> None:
    """As text on stdout, or to a file."""
    import json
    from dataclasses import asdict

    from edgeprune.errors import OutputError
    from edgeprune.lab.tables import to_csv, to_markdown, write_parquet
    from edgeprune.registry import require

    endings = {".csv": "csv", ".parquet": "parquet", ".json": "json"}
    kind = kind or (endings.get(goal.suffix, "markdown") if goal is not None else "markdown")
    document = [asdict(one) for one in chosen]
    if kind == "parquet":
        if goal is None:
            raise click.UsageError("Parquet is no text: say where with -o FILE")
        require("pyarrow", extra="compile")
        write_parquet(chosen, goal)
        output.show(document, f"{goal}: {len(chosen)} rows")
        return
    make: dict[str, Callable[[], str]] = {
        "markdown": lambda: to_markdown(chosen),
        "csv": lambda: to_csv(chosen),
        "json": lambda: json.dumps(document, indent=1) + "\n",
    }
    text = make[kind]()
    if goal is None:
        output.show(document, text.rstrip("\n"))
        return
    try:
        goal.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{goal}: cannot be written ({error.strerror}): choose another -o") from error
    output.show(document, f"{goal}: {len(chosen)} rows")
