"""How well the sensitivities of layers are foretold: predictions against the loss of each layer quantized alone.

    python benchmarks/sensitivity.py recipes/resnet56-given.yaml --out bench_results/sensitivity
    python benchmarks/sensitivity.py recipes/mobilenetv2-cifar10.yaml --weights mobilenetv2.safetensors

The truth is the divergence from the float model on samples of the report split, with the weights of one layer rounded
to nearest at one precision, in a file of its own. Predictions see the calibration samples alone. Beside them stands
what costs nothing to know:

- `squared-error`: of the layer's weights
- `magnitude`: the mean of their absolute values, and `1/magnitude`, both times the squared step of the precision
- `parameters`: how many there are, and `1/parameters`, times the same

Correlations are of ranks, with 95 % intervals over layers drawn again.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from edgeprune.api import stage_cache
from edgeprune.backends import LOAD
from edgeprune.bundle import open_bundle
from edgeprune.cli.program import Program
from edgeprune.data.preprocess import feeds
from edgeprune.data.splits import resolve_splits
from edgeprune.export.to_onnx import export
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.graph.specs import tensor_specs
from edgeprune.metrics import Interval, bootstrap, spearman
from edgeprune.pipeline import network
from edgeprune.pipeline.job import Job
from edgeprune.progress import SILENT
from edgeprune.quantize.constants import array
from edgeprune.quantize.sensitivity.candidates import Candidates, nearest
from edgeprune.quantize.sensitivity.curvature import curvature
from edgeprune.quantize.sensitivity.divergence import divergence
from edgeprune.quantize.sensitivity.likelihood import Likelihood, divergence_of, likelihoods
from edgeprune.quantize.sensitivity.sensitivity import PRECISIONS, Sensitivity
from edgeprune.quantize.spec import LIMITS
from edgeprune.recipe import Recipe, read_yaml
from edgeprune.registry import resolve
from edgeprune.targets.load import load_target

BATCH = 50
"""Samples that are answered at once; as many tell how values deviate."""
Samples = Mapping[str, NDArray[Any]]
Losses = dict[str, dict[str, float]]
"""By weight and precision."""


@dataclass(frozen=True)
class Prediction:
    """What one way to predict says, and what it took."""

    losses: Losses
    sample_forwards: float = 0.0
    seconds: float = 0.0


def true_losses(graph: ir.Model, candidates: Candidates, of: Mapping[str, Likelihood], samples: Samples) -> Losses:
    """The mean divergence, in nats, of each layer at each precision alone."""
    exact = answers(graph, samples)
    found: Losses = {}
    for layer in weighted_layers(graph):
        found[layer.weight] = {}
        for precision in PRECISIONS:
            changed = graph.clone()
            for weight in layer.weights:
                changed.graph.initializers[weight].const_value = ir.tensor(candidates[weight][precision], name=weight)
            losses = divergence_of(of, exact, answers(changed, samples))
            found[layer.weight][precision] = float(losses.mean())
    return found


def answers(graph: ir.Model, samples: Samples) -> dict[str, NDArray[Any]]:
    """What a graph answers to a multiple of BATCH samples."""
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(graph, Path(folder) / "model.onnx")
        load = resolve(LOAD, "ort", "backend")
        with load({"model": Path(folder) / "model.onnx"}, {}, threads=1, batch=BATCH) as runner:
            for start in range(0, len(next(iter(samples.values()))), BATCH):
                parts.append(runner.infer({name: x[start : start + BATCH] for name, x in samples.items()}))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def predictions(
    module: nn.Module, graph: ir.Model, candidates: Candidates, of: Mapping[str, Likelihood], samples: Samples
) -> dict[str, Prediction]:
    """By name."""
    found = {
        "curvature": _timed(lambda: curvature(module, graph, samples, candidates, of, np.random.default_rng(0))),
        "divergence": _timed(lambda: divergence(graph, samples, candidates, of, np.random.default_rng(0))),
    }
    return found | {name: Prediction(losses) for name, losses in baselines(graph, candidates).items()}


def _timed(measure: Callable[[], Sensitivity]) -> Prediction:
    start = time.perf_counter()
    found = measure()
    seconds = time.perf_counter() - start
    return Prediction({weight: one.losses for weight, one in found.layers.items()}, found.sample_forwards, seconds)


def baselines(graph: ir.Model, candidates: Candidates) -> dict[str, Losses]:
    """What the weights alone say."""
    layers = weighted_layers(graph)
    real = {weight: array(graph.graph.initializers[weight]) for layer in layers for weight in layer.weights}
    found: dict[str, Losses] = {
        "squared-error": {
            layer.weight: {
                one: float(sum(((candidates[w][one] - real[w]) ** 2).sum() for w in layer.weights))
                for one in PRECISIONS
            }
            for layer in layers
        }
    }
    magnitude = {layer.weight: float(np.abs(real[layer.weight]).mean()) for layer in layers}
    parameters = {layer.weight: float(sum(real[w].size for w in layer.weights)) for layer in layers}
    for name, values in (("magnitude", magnitude), ("parameters", parameters)):
        for power, shown in ((1, name), (-1, f"1/{name}")):
            found[shown] = {
                weight: {one: value**power / LIMITS[one] ** 2 for one in PRECISIONS} for weight, value in values.items()
            }
    return found


def correlations(true: Losses, predicted: Losses) -> dict[str, Interval]:
    """Of the layers at each precision, and of all pairs."""
    kinds = {**{one: (one,) for one in PRECISIONS}, "all": PRECISIONS}
    return {name: _correlation(true, predicted, precisions) for name, precisions in kinds.items()}


def _correlation(true: Losses, predicted: Losses, precisions: tuple[str, ...]) -> Interval:
    a, b = (np.array([[one[weight][p] for p in precisions] for weight in true]) for one in (true, predicted))
    return bootstrap(lambda rows: spearman(a[rows].ravel(), b[rows].ravel()), len(true))


def _job(path: Path, weights: Path | None) -> Job:
    """Of a bundle's recipe or a recipe's own."""
    recipe = Recipe.model_validate(open_bundle(path).core.recipe) if path.is_dir() else read_yaml(path, Recipe)
    if weights is not None:
        recipe = recipe.model_copy(update={"weights": weights})
    splits = resolve_splits(recipe.data, trains=recipe.weights is None and not path.is_dir())
    return Job(recipe, load_target("cpu"), splits, stage_cache(), SILENT, None, untrained=False)


def _shown(found: Mapping[str, Mapping[str, Interval]], predicted: Mapping[str, Prediction]) -> Table:
    table = Table("predictor", *(f"rank correlation, {one}" for one in (*PRECISIONS, "all")), "runs", "s", box=None)
    for name, kinds in found.items():
        cells = [f"{one.estimate:.2f} ({one.low:.2f} to {one.high:.2f})" for one in kinds.values()]
        table.add_row(name, *cells, f"{predicted[name].sample_forwards:.0f}", f"{predicted[name].seconds:.0f}")
    return table


@click.command(cls=Program)
@click.argument("path", metavar="RECIPE|BUNDLE", type=click.Path(path_type=Path, exists=True))
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="In place of the recipe's.")
@click.option("--samples", default=512, show_default=True, help="Calibration samples at most.")
@click.option("--judged", default=2000, show_default=True, help="Samples of the report split that tell the truth.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for all numbers as JSON.")
def main(path: Path, weights: Path | None, samples: int, judged: int, out: Path | None) -> None:
    """Tell how well the sensitivities of a model's layers are foretold."""
    job = _job(path, weights)
    module = network.reloaded(job, path) if path.is_dir() else network.dense(job, network.train(job))
    with tempfile.TemporaryDirectory() as folder:
        export(module, job.specs, Path(folder) / "model.onnx")
        graph = read_onnx(Path(folder) / "model.onnx")
    inputs = tensor_specs(graph.graph.inputs)
    calibration, report = (
        feeds(inputs, job.tensors(split, count), job.splits.info.name)
        for split, count in (("calibrate", samples), ("report", judged - judged % BATCH))
    )
    some = answers(graph, {name: x[:BATCH] for name, x in calibration.items()})
    of = likelihoods(job.splits.info.task, some)
    candidates = nearest(graph)
    predicted = predictions(module, graph, candidates, of, calibration)
    true = true_losses(graph, candidates, of, report)
    found = {name: correlations(true, one.losses) for name, one in predicted.items()}
    Console(width=130).print(_shown(found, predicted))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        record = {
            "model": job.recipe.model,
            "samples": {
                name: len(next(iter(x.values()))) for name, x in (("calibrate", calibration), ("report", report))
            },
            "correlations": {name: {kind: asdict(one) for kind, one in kinds.items()} for name, kinds in found.items()},
            "true": true,
            "predicted": {name: asdict(one) for name, one in predicted.items()},
        }
        (out / f"{path.stem}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
