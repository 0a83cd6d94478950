"""What quantizing costs, ours and NNCF's: time and memory of the work alone, each in processes of its own, by turns.

    python benchmarks/quantize_cost.py RECIPE --nncf build/nncf/bin/python --samples 300

The model is exported once. Then ours (`edgeprune quantize`, from preprocessed samples to the file in the runtime's
spelling) and NNCF get the same float ONNX, the same samples and one thread. Imports are left out of both: of the time,
and of the memory as the resident set after them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from edgeprune.api import recipe_with
from edgeprune.cache import StageCache
from edgeprune.cli.program import Program
from edgeprune.data.preprocess import feeds
from edgeprune.graph.load import read_onnx
from edgeprune.graph.specs import tensor_specs
from edgeprune.pipeline import single
from edgeprune.pipeline.artifact import MODEL
from edgeprune.pipeline.compile import prepare
from edgeprune.recipe import Recipe
from edgeprune.results import MB
from edgeprune.targets.load import load_target

OURS = """
import sys, time
from pathlib import Path
import onnxsim, openvino, scipy.optimize
import edgeprune.api, edgeprune.pipeline.compile, edgeprune.pipeline.single, edgeprune.backends.ort.run
with cost() as told:
    options = {"model": sys.argv[1], "data": sys.argv[2], "precision": "int8", "task": "none"}
    job = edgeprune.api.job_with(options, target="cpu")
    edgeprune.pipeline.single.quantize(job, sys.argv[4], Path(sys.argv[3]) / "model.onnx")
"""
NNCF = """
import sys
import nncf, numpy as np, openvino as ov
with cost() as told:
    stored = np.load(sys.argv[2] + "/samples.npz")
    (name,) = stored.files
    rows = stored[name]
    model = ov.Core().read_model(sys.argv[1])
    model.reshape({name: [1, *rows.shape[1:]]})
    kind = nncf.ModelType.TRANSFORMER if any(one.get_type_name() == "Softmax" for one in model.get_ops()) else None
    data = nncf.Dataset([{name: row[None]} for row in rows])
    quantized = nncf.quantize(model, data, subset_size=len(rows), model_type=kind)
    ov.save_model(quantized, sys.argv[3] + "/model.xml", compress_to_fp16=False)
"""
COST = """
import contextlib, json, time
def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))
@contextlib.contextmanager
def cost():
    before, start = status("VmRSS:"), time.perf_counter()
    yield
    print(json.dumps({"seconds": time.perf_counter() - start, "bytes": status("VmHWM:") - before}))
"""


def run(python: Path, code: str, arguments: list[str], cache: Path) -> dict[str, float]:
    """What one process says of itself."""
    threads = {"OMP_NUM_THREADS": "1", "EDGEPRUNE_CACHE": str(cache)}
    done = subprocess.run(
        [python, "-c", COST + code, *arguments], capture_output=True, text=True, check=False, env=os.environ | threads
    )
    if done.returncode != 0:
        raise click.ClickException((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    told: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def enlarged(recipe: str, samples: int) -> Recipe:
    """The recipe with so many calibration samples."""
    given = recipe_with({"pruner": "none"}, recipe)
    rows = given.data.calibrate
    if rows is None:
        raise click.UsageError(f"{recipe}: names no calibration rows")
    more = rows.model_copy(update={"stop": rows.start + samples})
    return given.model_copy(update={"data": given.data.model_copy(update={"calibrate": more})})


@click.command(cls=Program)
@click.argument("recipe")
@click.option("--nncf", required=True, type=click.Path(path_type=Path, exists=True), help="An interpreter that has it.")
@click.option("--samples", default=300, show_default=True)
@click.option("--backend", default="openvino", show_default=True)
@click.option("--turns", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="File for the numbers as JSON.")
def main(recipe: str, nncf: Path, samples: int, backend: str, turns: int, out: Path | None) -> None:
    """Quantize the RECIPE's model, untrained, with both."""
    with tempfile.TemporaryDirectory(prefix="edgeprune-cost-") as folder:
        root = Path(folder)
        job = prepare(enlarged(recipe, samples), load_target("cpu"), None, StageCache(root / "cache"), speed_only=True)
        single.export(job, root / MODEL)
        specs = tensor_specs(read_onnx(root / MODEL).graph.inputs)
        given = feeds(specs, job.tensors("calibrate", samples), job.splits.info.name)
        (root / "data").mkdir()
        np.savez(root / "data" / "samples.npz", **given)
        del given
        found: dict[str, list[dict[str, float]]] = {"edgeprune": [], "nncf": []}
        for turn in range(turns):
            for name, python, code in (("edgeprune", Path(sys.executable), OURS), ("nncf", nncf.absolute(), NNCF)):
                made = root / f"{name}-{turn}"
                made.mkdir()
                arguments = [str(root / MODEL), str(root / "data"), str(made), backend]
                found[name].append(run(python, code, arguments, root / f"cache-{turn}"))
        model_bytes = (root / MODEL).stat().st_size
    table = Table("", "seconds", "peak MB", "of the model", box=None)
    for name, turned in found.items():
        seconds, peak = (np.median([one[key] for one in turned]) for key in ("seconds", "bytes"))
        table.add_row(name, f"{seconds:.1f}", f"{peak / MB:.0f}", f"{peak / model_bytes:.1f} x")
    ratios = sorted(ours["seconds"] / theirs["seconds"] for ours, theirs in zip(*found.values(), strict=True))
    console = Console(width=100)
    console.print(table)
    console.print(f"edgeprune takes {np.median(ratios):.2f} x as long ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    if out is not None:
        out.write_text(json.dumps({"model_bytes": model_bytes, "samples": samples} | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
