"""Every model of the zoo on every data set for every target, to a bundle, or the reason why not.

    EDGEPRUNE_DATA=DIR python benchmarks/compile_table.py --out docs/table.md        (make table)

Each combination goes through the product's own stages, to a sealed bundle that is opened and verified again: weights
as they are drawn, so that no training stands between, and calibrated on few samples. Nothing is measured; combinations
that end in a bundle are known to compile, not to be accurate or fast.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from edgeprune.bundle import open_bundle
from edgeprune.cache import StageCache
from edgeprune.cli.program import Program
from edgeprune.data.datasets import KNOWN, ROOT_VARIABLE
from edgeprune.errors import EdgePruneError
from edgeprune.models.zoo import ZOO
from edgeprune.pipeline import assemble
from edgeprune.pipeline.artifact import read_facts
from edgeprune.pipeline.compile import prepare, stages
from edgeprune.quantize.calibrate import FEWEST_SAMPLES
from edgeprune.recipe import DataPart, Recipe, Rows
from edgeprune.shipped import names
from edgeprune.targets.load import load_target

PARITY = (
    "Of any output between PyTorch and the graph, in ONNX Runtime and OpenVINO, at two batch sizes, on real samples, in"
    " parts of the largest output, or of 1 where that is smaller; 1e-4 is allowed."
)
LEFT_OUT = {"cifar10_jpeg75"}
"""Data sets that nothing is trained on."""


@dataclass
class Cell:
    """What became of one model on one data set."""

    done: dict[str, list[str]] = field(default_factory=dict)
    """By target: the variants that the bundle holds."""
    refused: dict[str, str] = field(default_factory=dict)
    """By target: why there is none."""
    parity: float | None = None
    """Largest difference of an output between PyTorch and the exported graph, as `export.parity` counts it."""


def compiled(model: str, data: str, target: str, folder: Path) -> tuple[list[str], float | None]:
    """The variants of the bundle that was made, and the parity of its graph. Raises what `compile` raises."""
    recipe = Recipe(model=model, data=few_samples(data))
    job = prepare(recipe, load_target(target), None, StageCache(folder / "cache"), speed_only=True)
    out = folder / "bundle"
    parts = stages(job)
    assemble.place(assemble.assemble(job, parts), out)
    try:
        held = [variant.name for variant in open_bundle(out).core.variants]
        return held, read_facts(parts.exported).parity
    finally:
        shutil.rmtree(out)


def few_samples(data: str) -> DataPart:
    """The data set with the first rows of its calibration split alone."""
    rows = KNOWN[data].splits["calibrate"]
    return DataPart(name=data, calibrate=Rows(source=rows.source, start=rows.start, stop=rows.start + FEWEST_SAMPLES))


def page(cells: dict[tuple[str, str], Cell], models: list[str], data: list[str], targets: list[str]) -> str:
    """The table in Markdown, reasons below it."""
    reasons: dict[str, int] = {}
    lines = [
        "# What compiles",
        "",
        "Every model of the zoo on every named data set for every target: how many of the"
        f" {len(targets)} targets end in a verified bundle, or the number of the reason below. Made by `make table`:"
        " weights as they are drawn, nothing measured.",
        "",
        f"| model | {' | '.join(data)} |",
        f"|---|{'---|' * len(data)}",
    ]
    for model in models:
        told = []
        for name in data:
            cell = cells[model, name]
            numbers = sorted({reasons.setdefault(why, len(reasons) + 1) for why in cell.refused.values()})
            marks = ", ".join(f"[{number}]" for number in numbers)
            told.append(" ".join(filter(None, (str(len(cell.done)) if cell.done else "", marks))))
        lines.append(f"| {model} | {' | '.join(told)} |")
    lines += ["", "## Why not", ""]
    lines += [f"{number}. {why}" for why, number in reasons.items()]
    lines += ["", "## Export parity", "", PARITY, "", "| model | largest difference |", "|---|---|"]
    for model in models:
        found = [cell.parity for (name, _), cell in cells.items() if name == model and cell.parity is not None]
        lines.append(f"| {model} | {f'{max(found):.1e}' if found else 'none exported'} |")
    lines += ["", "## What a bundle holds", "", "| target | variants |", "|---|---|"]
    held: dict[str, set[str]] = defaultdict(set)
    for cell in cells.values():
        for target, variants in cell.done.items():
            held[target].add(", ".join(variants))
    lines += [f"| {target} | {'; '.join(sorted(held[target])) or 'none'} |" for target in targets]
    return "\n".join(lines) + "\n"


def restored(state: Path) -> dict[tuple[str, str], Cell]:
    """What earlier runs found, by model and data set."""
    stored = json.loads(state.read_bytes()) if state.is_file() else []
    return {(one["model"], one["data"]): Cell(one["done"], one["refused"], one["parity"]) for one in stored}


def keep(cells: dict[tuple[str, str], Cell], state: Path) -> None:
    """Leave what was found so far for a later run."""
    state.parent.mkdir(parents=True, exist_ok=True)
    records = [{"model": model, "data": data, **asdict(cell)} for (model, data), cell in cells.items()]
    state.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def reason(error: EdgePruneError, model: str, data: str) -> str:
    """The message, with the names of model and data set left general so that equal reasons are one."""
    text = " ".join(str(error).split())
    text = text.replace(f"{model} takes", "MODEL takes")
    if root := os.environ.get(ROOT_VARIABLE):
        text = text.replace(root.rstrip("/"), f"${ROOT_VARIABLE}")
    for name, general in ((f"{model}:", "MODEL:"), (data, "DATA"), (data.replace(":", "/"), "DATA")):
        text = text.replace(name, general)
    return text


@click.command(cls=Program)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The Markdown page.")
@click.option("--state", type=click.Path(path_type=Path), default=Path("build/compile_table.json"), show_default=True)
@click.option("--model", "models", multiple=True, type=click.Choice(sorted(ZOO)), help="Repeat for more.  [all]")
@click.option("--data", "chosen", multiple=True, type=click.Choice(sorted(KNOWN)), help="Repeat for more.  [all]")
def main(out: Path, state: Path, models: tuple[str, ...], chosen: tuple[str, ...]) -> None:
    """Run every combination; those that the state file holds are not run again (remove it to do so)."""
    of_models, of_data = list(models or ZOO), list(chosen or [name for name in KNOWN if name not in LEFT_OUT])
    targets = list(names("targets"))
    cells = restored(state)
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("compile", total=len(of_models) * len(of_data))
        for model in of_models:
            for data in of_data:
                progress.update(task, description=f"{model} on {data}", advance=1)
                if (model, data) in cells:
                    continue
                cell = Cell()
                with tempfile.TemporaryDirectory(prefix="edgeprune-table-") as folder:
                    for target in targets:
                        try:
                            cell.done[target], cell.parity = compiled(model, data, target, Path(folder))
                        except EdgePruneError as error:
                            cell.refused[target] = reason(error, model, data)
                cells[model, data] = cell
                keep(cells, state)
    out.write_text(page(cells, of_models, of_data, targets), encoding="utf-8")


if __name__ == "__main__":
    main()
