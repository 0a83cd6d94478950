"""Networks against the line through others of their kind: accuracy at equal measured latency.

    python benchmarks/equal_latency.py build/resnet56-cifar10-narrow-cpu --variant openvino-int8
        --line build/resnet56-cifar10-cpu,build/resnet32-cifar10-cpu,build/resnet20-cifar10-cpu

One variant of every bundle takes turns with the first of the line in one run. Between two points of the line lies what
a mixture of them would answer in the mean, at the latency that they would take in the mean; before its fastest point
and behind its slowest, those alone. All are judged by the same samples, so that a distance to the line is paired.
Several seeds of one network, `build/seed0,build/seed1`, stand beside it with their mean as well. A line of several
seeds is `--line` once for each: its points are their means.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from edgeprune.api import predict
from edgeprune.bundle import Bundle, Core, open_bundle, seal
from edgeprune.cli.program import Program
from edgeprune.errors import DataError
from edgeprune.interleaved.run import measure
from edgeprune.interleaved.settings import Settings
from edgeprune.metrics import Interval, mean_interval, order_statistic_interval
from edgeprune.pipeline.compare import copied, sample_inputs
from edgeprune.pipeline.measure import evaluation, same_splits
from edgeprune.pipeline.places import located_data
from edgeprune.recipe import read_yaml
from edgeprune.targets.target import Target
from edgeprune.transport.local import LocalTransport


@dataclass(frozen=True)
class Point:
    """What is known of one network."""

    name: str
    relative: tuple[float, ...]
    """By restart: its median latency over that of the line's first."""
    marks: NDArray[np.float64]
    """One per sample, 1 where it is right [N]."""
    milliseconds: float
    bytes: int

    @property
    def latency(self) -> float:
        """Relative to the line's first."""
        return float(np.median(self.relative))


@dataclass(frozen=True)
class Standing:
    """Where a network stands beside the line."""

    name: str
    milliseconds: float
    bytes: int
    faster: float
    """How many times, than the line's first."""
    faster_interval: Interval | None
    accuracy: float
    lost: Interval
    """Of the accuracy of the line's first; a fraction, as all of these."""
    above: Interval
    """What it is more accurate by than the line at its latency."""


def weights_at(latency: float, latencies: Sequence[float]) -> NDArray[np.float64]:
    """Shares [points] of a line's points that make a point at `latency`: of the two around it, or of the nearest."""
    order = np.argsort(latencies)
    among = np.asarray(latencies, np.float64)[order]
    shares = np.zeros(len(among))
    shares[order] = [np.interp(latency, among, one) for one in np.eye(len(among))]
    return shares


def standing(point: Point, line: Sequence[Point]) -> Standing:
    """A network beside the line through others, of which the first is what all are compared with."""
    shares = weights_at(point.latency, [one.latency for one in line])
    at_latency = sum((share * one.marks for share, one in zip(shares, line, strict=True)), np.zeros(len(point.marks)))
    return Standing(
        point.name,
        point.milliseconds,
        point.bytes,
        1 / point.latency,
        order_statistic_interval([1 / one for one in point.relative]),
        float(point.marks.mean()),
        mean_interval(line[0].marks - point.marks),
        mean_interval(point.marks - at_latency),
    )


def mean_point(seeds: Sequence[Point]) -> Point:
    """What is to be expected of a network that was trained with several seeds; of a single one that itself."""
    if len(seeds) == 1:
        return seeds[0]
    return Point(
        f"{seeds[0].name}, mean of {len(seeds)}",
        tuple(float(np.mean(restart)) for restart in zip(*(one.relative for one in seeds), strict=True)),
        np.mean([one.marks for one in seeds], axis=0),
        float(np.mean([one.milliseconds for one in seeds])),
        round(np.mean([one.bytes for one in seeds])),
    )


def points(
    bundles: Sequence[Bundle], variant: str, splits: Sequence[str], settings: Settings, console: Console
) -> list[Point]:
    """What is found out of each, in one run, judged by the samples of all the splits."""
    marks = [np.concatenate([_marks(bundle, variant, split) for split in splits]) for bundle in bundles]
    if len({len(one) for one in marks}) > 1:
        raise DataError(f"judged by {', '.join(str(len(one)) for one in marks)} samples: only like can be compared")
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        root = Path(folder) / "all"
        placed = [copied(bundle, bundle.variant(variant), root, f"n{i}") for i, bundle in enumerate(bundles)]
        core = {field.name: getattr(bundles[0].core, field.name) for field in fields(Core) if field.name != "sha256"}
        together = seal(root, core | {"baseline": placed[0], "variants": tuple(placed[1:])})
        target = read_yaml(bundles[0].root / "target.yaml", Target)
        inputs = sample_inputs(bundles[0], None)
        first, others = measure(together, target, [inputs], settings, transport=LocalTransport())
    medians = []
    for bundle, one in zip(bundles, (first, *others), strict=True):
        if one.unmeasured:
            raise DataError(f"{bundle.root}: {one.unmeasured}")
        medians.append([float(np.median(run)) for run in one.samples_ms])
        console.print(f"{bundle.root.name}: {np.median(medians[-1]):.3f} ms", *one.warnings, sep="; ", highlight=False)
    return [
        Point(
            bundle.root.name,
            tuple(a / b for a, b in zip(found, medians[0], strict=True)),
            right,
            float(np.median(found)),
            sum(path.stat().st_size for path in bundle.files(bundle.variant(variant)).values()),
        )
        for bundle, found, right in zip(bundles, medians, marks, strict=True)
    ]


def _marks(bundle: Bundle, variant: str, split: str) -> NDArray[np.float64]:
    judging = evaluation(bundle, same_splits(bundle, located_data(bundle, None)), split)
    judge = judging.judge
    if judge is None or judge.metrics[0].marks is None:
        raise DataError(f"{bundle.root}: is not judged by a mark for each sample")
    parts = list(judging.batches())
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    marks = judge.metrics[0].marks(judge.answers(predict(bundle, joined, variant)), judge.truth)
    return np.asarray(marks, np.float64)


def table(found: Sequence[Standing], on_line: int) -> Table:
    """Those of the line first."""
    columns = ("network", "accuracy", "ms", "kB", "times faster", "lost, points", "above the line, points")
    shown = Table(*columns, box=None)
    for number, one in enumerate(found):
        span = one.faster_interval
        faster = f"{one.faster:.2f}" + (f" [{span.low:.2f}, {span.high:.2f}]" if span and number else "")
        shown.add_row(
            *(one.name, f"{100 * one.accuracy:.2f} %", f"{one.milliseconds:.3f}", f"{one.bytes / 1e3:.0f}", faster),
            _in_points(one.lost) if number else "-",
            "-" if number < on_line else _in_points(one.above),
        )
    return shown


def _in_points(one: Interval) -> str:
    return f"{100 * one.estimate:.2f} [{100 * one.low:.2f}, {100 * one.high:.2f}]"


@click.command(cls=Program)
@click.argument("candidates", nargs=-1, required=True, metavar="BUNDLE[,BUNDLE]...")
@click.option(
    "--line",
    "lines",
    required=True,
    multiple=True,
    metavar="BUNDLE,...",
    help="Those that make the line; compared with is the first. Repeat for more seeds of each.",
)
@click.option("--variant", default="openvino-int8", show_default=True, help="That is measured of each.")
@click.option("--splits", default="report", show_default=True, help="That judge, as one: `report,test`.")
@click.option("--restarts", default=12, show_default=True)
@click.option("--seconds", default=1.0, show_default=True, help="Per network and restart.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.json")
def main(
    candidates: tuple[str, ...],
    lines: tuple[str, ...],
    variant: str,
    splits: str,
    restarts: int,
    seconds: float,
    out: Path | None,
) -> None:
    """Measure BUNDLEs and a line, and say which lie above it."""
    console = Console(width=120)
    seeds = [line.split(",") for line in lines]
    if len({len(one) for one in seeds}) > 1:
        raise click.UsageError("--line: every seed needs the same networks, in the same order")
    roots = [[*same] for same in zip(*seeds, strict=True)] + [group.split(",") for group in candidates]
    settings = Settings(restarts=restarts, seconds=seconds, energy_s=0, judged=False)
    bundles = [open_bundle(Path(root)) for group in roots for root in group]
    every = points(bundles, variant, splits.split(","), settings, console)
    ends = list(accumulate(map(len, roots)))
    groups = [every[begin:end] for begin, end in pairwise([0, *ends])]
    on_line = len(seeds[0])
    found = [mean_point(group) for group in groups[:on_line]]
    for group in groups[on_line:]:
        found += group
    found += [mean_point(group) for group in groups[on_line:] if len(group) > 1]  # behind all others
    standings = [standing(one, found[:on_line]) for one in found]
    console.print(table(standings, on_line))
    if out is not None:
        record: dict[str, Any] = {"variant": variant, "splits": splits, "restarts": restarts, "line": on_line}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record | {"networks": [asdict(one) for one in standings]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
