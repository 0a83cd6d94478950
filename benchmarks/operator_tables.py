"""How well a table of operators foretells networks that it does not hold.

    EDGEPRUNE_DATA=DIR python benchmarks/operator_tables.py --out DIR

Every network is compiled with weights as they are drawn, and its operators are timed as they run in it. Those of
`--learn` fill the table, and those of `--predict` are foretold from their graph and plan alone. With `--each-left-out`
every network is foretold from all others. What was timed before, under --out, is not timed again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from compile_table import few_samples
from rich.console import Console

from edgeprune.bundle import CORE, Bundle, open_bundle
from edgeprune.cache import StageCache
from edgeprune.cli.program import Program
from edgeprune.graph.load import read_onnx
from edgeprune.latency_table import FILE, Entry, LatencyTable, Prediction, read_table
from edgeprune.pipeline import assemble
from edgeprune.pipeline.compile import prepare, stages
from edgeprune.pipeline.operators import OperatorSettings, keep_operators
from edgeprune.quantize.allocation.latency import predict
from edgeprune.quantize.emission.flavour import flavour_for
from edgeprune.quantize.plan import uniform_plan
from edgeprune.recipe import PrunePart, Recipe
from edgeprune.targets.load import load_target

LEARN = ("resnet20", "resnet32", "resnet44", "resnet20:0.5", "resnet44:0.3", "mobilenetv2", "mobilenetv2:0.3")
PREDICT = ("resnet56", "resnet56:0.5", "resnet56:0.8", "resnet32:0.6", "mobilenetv2:0.5")
TARGET, DATA = "cpu", "cifar10"


@dataclass(frozen=True)
class Row:
    """One variant of one network."""

    network: str
    variant: str
    backend: str
    measured_ms: float
    predicted: Prediction

    @property
    def error(self) -> float | None:
        """Of the prediction, as a share of what was measured; None where nothing was foretold."""
        return None if self.predicted.ms is None else self.predicted.ms / self.measured_ms - 1


def bundled(network: str, out: Path) -> Bundle:
    """A network, `name` or `name:keep` with that share of its multiply-accumulates, as a bundle for this machine."""
    root = out / network.replace(":", "-")
    if not (root / CORE).exists():
        name, _, keep = network.partition(":")
        prune = PrunePart(pruner="magnitude", keep=float(keep)) if keep else PrunePart(pruner="none")
        recipe = Recipe(model=name, data=few_samples(DATA), prune=prune)
        job = prepare(recipe, load_target(TARGET), None, StageCache(out / "cache"), speed_only=True)
        assemble.place(assemble.assemble(job, stages(job)), root)
    return open_bundle(root)


def rows(network: str, bundle: Bundle, table: LatencyTable, known: Collection[str]) -> Iterator[Row]:
    """Each of its variants beside what is foretold of it by what was measured in the `known` bundles alone."""
    target = load_target(TARGET)
    others = replace(table, entries=tuple(one for one in table.entries if _bundle(one) in known))
    for variant in {one.name: one for one in (bundle.core.baseline, *bundle.core.variants)}.values():
        if variant.name == "baseline" or variant.precision not in ("fp32", "int8"):
            continue
        model = read_onnx(bundle.files(bundle.variant(f"{variant.backend}-fp32"))["model"])
        plan, flavour = uniform_plan(model, variant.precision), flavour_for(variant.backend, target)
        timed = tuple(one for one in table.entries if one.source == f"{_short(bundle)}:{variant.name}")
        # all of its operators stand in there, so this is their sum: what was measured
        measured = predict(model, plan, flavour, replace(table, entries=timed), variant.backend)
        if measured.ms is not None:
            found = predict(model, plan, flavour, others, variant.backend)
            yield Row(network, variant.name, variant.backend, measured.ms, found)


def _short(bundle: Bundle) -> str:
    return bundle.sha256[:12]


def _bundle(entry: Entry) -> str:
    return entry.source.partition(":")[0]


def shown(found: Sequence[Row]) -> str:
    """A table of all predictions, and the median error of each runtime."""
    lines = [f"{'network':16} {'variant':14} {'predicted':>10} {'measured':>10} {'error':>8} {'interpolated':>13}"]
    for row in found:
        ms = "-" if row.predicted.ms is None else f"{row.predicted.ms:.4f}"
        error = "-" if row.error is None else f"{100 * row.error:+.1f} %"
        lines.append(
            f"{row.network:16} {row.variant:14} {ms:>10} {row.measured_ms:>10.4f} {error:>8}"
            f" {100 * row.predicted.interpolated:>11.0f} %"
        )
        lines += [f"  unknown: {', '.join(row.predicted.unknown)}"] if row.predicted.unknown else []
    for backend in sorted({row.backend for row in found}):
        errors = [abs(row.error) for row in found if row.backend == backend and row.error is not None]
        if errors:
            median, most = 100 * float(np.median(errors)), 100 * max(errors)
            lines.append(f"{backend}: median error {median:.1f} %, largest {most:.1f} %, of {len(errors)}")
    return "\n".join(lines)


@click.command(cls=Program)
@click.option("--learn", multiple=True, default=LEARN, show_default=True)
@click.option("--predict", "foretold", multiple=True, default=PREDICT, show_default=True)
@click.option("--each-left-out", is_flag=True, help="Foretell each of them from all others.")
@click.option("--restarts", default=OperatorSettings().restarts, show_default=True)
@click.option("--seconds", default=OperatorSettings().seconds, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/operator_tables"), show_default=True)
def main(
    learn: tuple[str, ...], foretold: tuple[str, ...], each_left_out: bool, restarts: int, seconds: float, out: Path
) -> None:
    """Fill a table, foretell, and print the errors."""
    console, settings = Console(stderr=True), OperatorSettings(restarts=restarts, seconds=seconds)
    bundles = {network: bundled(network, out) for network in dict.fromkeys((*learn, *foretold))}
    path = out / TARGET / FILE
    for network, bundle in bundles.items():
        if not path.exists() or _short(bundle) not in map(_bundle, read_table(path).entries):
            console.print(f"timing {network}")
            keep_operators(bundle, out, settings=settings)
    table, found = read_table(path), []
    for network in bundles if each_left_out else foretold:
        known = {_short(bundles[one]) for one in (bundles if each_left_out else learn) if one != network}
        found += rows(network, bundles[network], table, known)
    click.echo(shown(found))


if __name__ == "__main__":
    main()
