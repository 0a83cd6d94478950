"""Every model of the zoo for every target: in which precision layers were meant to run and did, file size, build time.

    EDGEPRUNE_DATA=DIR python benchmarks/variant_table.py --out docs/variants.md        (make variants)

Weights are as they are drawn, and calibrated on few samples: no time or accuracy is told. What ran is read from the
runtimes of this machine, so only for targets of its architecture. For TensorRT it is marked RTX: no engine ran, these
are the kernels that the compiler of TensorRT-RTX chose for SM86, the nearest to a Jetson Orin of those it builds for.
It is another product than the TensorRT of a board, and needs no GPU. How long lowering took includes the comparison of
what the runtime answers with what the file says, and not that compiler.
"""

from __future__ import annotations

import inspect
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from compile_table import few_samples
from rich.console import Console
from rich.progress import Progress
from tensorrt_layers import compiled, compiler

from edgeprune.backends import EFFECTIVE, LOAD
from edgeprune.bundle import Bundle, Variant, open_bundle
from edgeprune.cache import RECORD, StageCache
from edgeprune.cli.program import Program
from edgeprune.errors import EdgePruneError, MissingError
from edgeprune.models.zoo import ZOO
from edgeprune.pipeline import assemble
from edgeprune.pipeline.compile import prepare, stages
from edgeprune.recipe import PrunePart, QuantizePart, Recipe
from edgeprune.registry import resolve
from edgeprune.shipped import names
from edgeprune.targets.load import load_target
from edgeprune.targets.machine import architecture
from edgeprune.targets.target import Target

IMAGES, TEXTS = "cifar10", "imdb"
PRECISIONS = ("int4", "int8", "fp16", "bf16", "fp32")
HEAD = "| model | target | variant | layers | meant | ran | file, kB | build, s |"


@dataclass(frozen=True)
class Row:
    """One variant."""

    model: str
    target: str
    variant: str
    meant: dict[str, int]
    """How many layers, by precision."""
    four_bits: int
    """How many of them have weights in 4 bits on disk, whatever they are computed in."""
    ran: dict[str, int]
    not_run: str
    file_bytes: int
    build_s: float
    compiler: str = ""
    """Which other compiler than the target's `ran` is read from; empty: the target's runtime ran."""

    def cells(self) -> tuple[str, ...]:
        """As the table has them."""
        stored = f" ({self.four_bits} of them stored in 4 bits)" if self.four_bits else ""
        read_from = f" ({self.compiler})" if self.compiler else ""
        return (
            self.model,
            self.target,
            self.variant,
            str(sum(self.meant.values())),
            _counted(self.meant) + stored,
            _counted(self.ran) + read_from if self.ran else " ".join(self.not_run.split()).replace("|", r"\|"),
            f"{self.file_bytes / 1e3:.0f}",
            f"{self.build_s:.1f}",
        )


def rows(model: str, target: Target, folder: Path, trt: Any | None = None) -> list[Row]:
    """Of every variant, the baseline among them where it is one. Raises what `compile` raises.

    `trt` is what TensorRT variants are compiled with, None where TensorRT-RTX is not installed. Whatever targets share
    of their stages, calibration above all, is done once in a `folder`.
    """
    data = TEXTS if "vocabulary" in inspect.signature(resolve(ZOO, model, "model")).parameters else IMAGES
    # rounding changes neither how many layers run in which precision nor a size, and takes minutes a model
    whole, narrow = PrunePart(pruner="none"), QuantizePart(precision="int4", corrections=("smoothing",))
    recipe = Recipe(model=model, data=few_samples(data), prune=whole, quantize=narrow)
    job = prepare(recipe, target, None, StageCache(folder / "cache"), speed_only=True)
    parts = stages(job)
    seconds = {
        f"{backend}-{precision}": json.loads((stage.folder / RECORD).read_bytes())["seconds"]
        for backend, precision, stage in parts.variants
    }
    bundle = open_bundle(assemble.assemble(job, parts).folder)
    return [_row(bundle, bundle.variant(name), target, took, trt) for name, took in seconds.items()]


def _row(bundle: Bundle, variant: Variant, target: Target, seconds: float, trt: Any | None) -> Row:
    engine = variant.backend == "tensorrt"
    ran, why = _chosen(bundle, variant, trt) if engine else _ran(bundle, variant, target)
    meant = Counter(layer.precision for layer in variant.layers)
    stored = sum(layer.weight_bits < 8 for layer in variant.layers)
    size = bundle.size_bytes(variant)
    return Row(
        model=bundle.core.model,
        target=target.name,
        variant=variant.name,
        meant=dict(meant),
        four_bits=stored,
        ran=dict(ran),
        not_run=why,
        file_bytes=size,
        build_s=seconds,
        compiler="RTX" if engine else "",
    )


def _chosen(bundle: Bundle, variant: Variant, trt: Any | None) -> tuple[Counter[str], str]:
    """Layers by the precision of the kernels that NVIDIA's compiler chooses, whatever machine this is, or why none."""
    if trt is None:
        return Counter(), "not read: TensorRT-RTX is not installed"
    try:
        one = compiled(trt, bundle.files(variant), variant)
    except EdgePruneError as error:
        return Counter(), str(error)
    return Counter(layer.effective for layer in one.layers), ""


def _ran(bundle: Bundle, variant: Variant, target: Target) -> tuple[Counter[str], str]:
    """Layers by the precision that the runtime says it used, or why it was not asked."""
    if target.arch not in ("any", architecture()):
        return Counter(), f"not read: this machine is no {target.arch}"
    try:
        load = resolve(LOAD, variant.backend, "runtime")
        with load(bundle.files(variant), variant.options, threads=1, batch=1) as runner:
            layers = resolve(EFFECTIVE, variant.backend, "runtime")(runner.evidence(), variant.layers)
    except EdgePruneError as error:
        return Counter(), str(error)
    return Counter(layer.effective for layer in layers), ""


def _counted(layers: dict[str, int]) -> str:
    known = [name for name in (*PRECISIONS, *sorted(layers)) if name in layers]
    return ", ".join(f"{layers[name]} {name}" for name in dict.fromkeys(known))


def page(found: Iterable[Row], refused: Iterable[tuple[str, str, str]]) -> str:
    """The table in Markdown, and below it what could not be made."""
    lines = ["# What is in a variant", "", " ".join((__doc__ or "").split("\n\n")[2].split()), "", HEAD]
    lines.append("|---|---|---|---|---|---|---|---|")
    lines += [f"| {' | '.join(row.cells())} |" for row in found]
    reasons = [f"- {model} for {target}: {why}" for model, target, why in refused]
    return "\n".join([*lines, *(["", "## Not made", "", *reasons] if reasons else [])]) + "\n"


def _installed() -> Any | None:
    try:
        return compiler()
    except MissingError as error:
        Console(stderr=True).print(str(error))
        return None


@click.command(cls=Program)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The Markdown page.")
@click.option("--state", type=click.Path(path_type=Path), default=Path("build/variant_table.json"), show_default=True)
@click.option("--model", "models", multiple=True, type=click.Choice(sorted(ZOO)), help="Repeat for more.  [all]")
@click.option("--target", "targets", multiple=True, type=click.Choice(names("targets")), help="Repeat.  [all]")
def main(out: Path, state: Path, models: tuple[str, ...], targets: tuple[str, ...]) -> None:
    """Make every bundle; models that the state file holds are not made again (remove it to do so)."""
    stored = json.loads(state.read_bytes()) if state.is_file() else {}
    of_targets, trt = targets or names("targets"), _installed()
    state.parent.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("compile", total=len(models or ZOO))
        for model in models or ZOO:
            progress.update(task, description=model, advance=1)
            if model in stored:
                continue
            found, refused = [], []
            with tempfile.TemporaryDirectory(prefix="edgeprune-table-") as folder:
                for target in of_targets:
                    try:
                        found += [asdict(row) for row in rows(model, load_target(target), Path(folder), trt)]
                    except EdgePruneError as error:
                        refused.append((model, target, " ".join(str(error).split())))
            stored[model] = {"rows": found, "refused": refused}
            state.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    every = [Row(**row) for one in stored.values() for row in one["rows"]]
    out.write_text(page(every, [tuple(why) for one in stored.values() for why in one["refused"]]), encoding="utf-8")


if __name__ == "__main__":
    main()
