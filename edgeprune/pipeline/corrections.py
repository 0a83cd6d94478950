"""The stages that let a graph lose less when it is quantized: each can be switched off in the recipe."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.backend import Feeds
from edgeprune.bundle import PLAN
from edgeprune.cache import Stage
from edgeprune.data.preprocess import feeds
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.pipeline.artifact import FACTS, MODEL, read_facts
from edgeprune.pipeline.job import Job
from edgeprune.quantize.corrections.bias_correction import mean_columns
from edgeprune.quantize.corrections.equalize import Equalize
from edgeprune.quantize.corrections.rounding import round_weights
from edgeprune.quantize.corrections.smooth import Smooth, normalized_maxima
from edgeprune.quantize.emission.blocks import block_size
from edgeprune.quantize.emission.flavour import FLAVOURS, Flavour, fitted, in_blocks
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.plan_file import read_plan
from edgeprune.quantize.spec import Rounded

BATCH = 32
MOST_MACS = 2e13
"""That rounding layer after layer may take: some minutes on one core. ResNet-56 on 512 images takes 7e12."""
MEANS = "means.npz"
ROUNDED, IN_BLOCKS = "rounded.npz", "rounded-blocks.npz"
"""With scales for output channels, and for blocks of them: what runtimes of one target want may be both."""
WEIGHT, SCALE = "#weight", "#scale"
"""What stands behind a weight's name there."""
CODE = ("quantize", "graph", "backends", "data")


def conditioned(job: Job, exported: Stage) -> Stage:
    """A graph with the same function whose values and weights are easier to quantize."""
    wanted = set(job.recipe.quantize.corrections) & {"equalization", "smoothing"}
    if not wanted:
        return exported

    def work(folder: Path) -> None:
        graph = read_onnx(exported.folder / MODEL)
        if "equalization" in wanted:
            graph = _changed(job, "equalization", Equalize()(graph))
        if "smoothing" in wanted:
            graph = _changed(job, "smoothing", Smooth(normalized_maxima(graph, samples(job, exported)))(graph))
        write_onnx(graph, folder / MODEL)
        shutil.copyfile(exported.folder / FACTS, folder / FACTS)

    return job.stage("condition", _inputs(job, exported) | {"corrections": sorted(wanted)}, work, code=CODE)


def _changed(job: Job, correction: str, result: ir.passes.PassResult) -> ir.Model:
    """The graph; where nothing in it was to be done, that is said to who asked for it."""
    if not result.modified and "corrections" in job.recipe.quantize.model_fields_set:
        job.progress.say(f"corrections: {correction}: has no effect on this graph")
    return result.model


def tell_of_idle(job: Job) -> None:
    """Say which of the corrections that are asked for do nothing, and why."""
    part = job.recipe.quantize
    asked, told = set(part.corrections), ""
    if job.tunes:
        told = f"{', '.join(part.corrections)}: left out of weights that are trained on with their rounding in place"
    elif "corrections" in part.model_fields_set and "rounding" in asked and part.precision == "int8":
        told = "rounding: is of 4-bit weights, and int8 has none"
    elif {"rounding", "bias"} <= asked:
        told = "bias: is for layers that `rounding` leaves alone, which makes up for the means of the others"
    if asked and told:
        job.progress.say(f"corrections: {told}")


def means(job: Job, exported: Stage) -> Stage | None:
    """What each layer reads on average, by which biases are corrected; None where they are not to be."""
    if "bias" not in job.recipe.quantize.corrections or job.tunes:
        return None

    def work(folder: Path) -> None:
        graph = read_onnx(exported.folder / MODEL)
        _save(folder / MEANS, mean_columns(graph, samples(job, exported)))

    return job.stage("means", _inputs(job, exported), work, code=CODE)


def rounded(job: Job, exported: Stage, plan: Stage | None, *, alone: bool = False) -> Stage | None:
    """The 4-bit weights of a plan, rounded for what their layers give; None where that is not wanted.

    `plan`: None where all have 4 bits. `alone`: whatever other layers are; else each layer makes up for those before
    it, unless the network is too large to be run for every layer.
    """
    if "rounding" not in job.recipe.quantize.corrections:
        return None
    forms = {_file(FLAVOURS[name]): FLAVOURS[name] for name in job.runtimes}

    def work(folder: Path) -> None:
        partial = folder / "layers"
        graph = read_onnx(exported.folder / MODEL)
        given = uniform_plan(graph, "int4") if plan is None else read_plan(plan.folder / PLAN, graph)
        for file, flavour in forms.items():
            # one dialect alone has blocks: what has 8 bits in it is nothing that other layers must make up for
            chosen = fitted(given, graph, flavour) if flavour.stores_blocks else given
            blocks = in_blocks(chosen, graph, flavour) if flavour.stores_blocks else {}
            (partial / file).mkdir(parents=True, exist_ok=True)
            found = round_weights(
                graph,
                chosen,
                lambda: samples(job, exported),
                blocks={name: size for name, one in blocks.items() if (size := block_size(one)) is not None},
                sequential=not alone and _can_be_run_often(job, exported, graph),
                folder=partial / file,
                progress=job.progress,
            )
            arrays = {f"{name}{WEIGHT}": one.weight for name, one in found.items()}
            _save(folder / file, arrays | {f"{name}{SCALE}": one.scale for name, one in found.items()})
        shutil.rmtree(partial)

    inputs = _inputs(job, exported) | {"plan": plan, "alone": alone, "forms": sorted(forms)}
    return job.stage("round", inputs, work, code=CODE, resumable=True)


def read_means(stage: Stage) -> dict[str, NDArray[np.float64]]:
    """By node, as `quantize.bias_correction` wants them."""
    with np.load(stage.folder / MEANS, allow_pickle=False) as file:
        return dict(file)


def read_rounded(stage: Stage, flavour: Flavour) -> dict[str, Rounded]:
    """By weight, as a dialect stores them."""
    with np.load(stage.folder / _file(flavour), allow_pickle=False) as file:
        names = [key.removesuffix(WEIGHT) for key in file.files if key.endswith(WEIGHT)]
        return {name: Rounded(file[f"{name}{WEIGHT}"], file[f"{name}{SCALE}"]) for name in names}


def samples(job: Job, exported: Stage) -> Iterator[Feeds]:
    """The calibration samples as the graph takes them, a batch at a time."""
    specs = read_facts(exported).inputs
    for part in job.splits.batches("calibrate", BATCH):
        yield feeds(specs, job.splits.preprocess(part.columns), job.splits.info.name)


def _file(flavour: Flavour) -> str:
    return IN_BLOCKS if flavour.stores_blocks else ROUNDED


def _can_be_run_often(job: Job, exported: Stage, graph: ir.Model) -> bool:
    """Whether two runs of all samples for each layer are soon done."""
    runs = 2 * len(job.splits.digests["calibrate"]) * len(weighted_layers(graph))
    return runs * read_facts(exported).macs <= MOST_MACS


def _save(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    np.savez(file, allow_pickle=False, **arrays)


def _inputs(job: Job, exported: Stage) -> dict[str, object]:
    return {
        "model": exported,
        "rows": job.splits.fingerprint("calibrate"),
        "preprocess": job.splits.preprocess.to_json(),
    }
