"""EdgePrune's INT8 file against ONNX Runtime's own static quantization of the same model.

    python benchmarks/ort_static.py build/resnet20-cpu --out bench_results/peers

The peer gets what its documentation recommends and the same calibration samples: `quant_pre_process`, then
`quantize_static` as Q/DQ with 8-bit unsigned activations and signed weights per channel. It stands as the baseline of
a bundle of its own, so that "speed-up" is our speed over the peer's, from rounds interleaved in one run.
"""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path

import click
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console

from edgeprune.bench import Settings, measure
from edgeprune.bundle import Bundle, Core, Variant, open_bundle, seal
from edgeprune.choose import choose_default
from edgeprune.data.datasets import read
from edgeprune.data.splits import Splits, resolve_splits
from edgeprune.pipeline.measure import evaluation
from edgeprune.recipe import Recipe, read_yaml
from edgeprune.report.tables import summary
from edgeprune.results import write
from edgeprune.targets.target import Target
from edgeprune.transport.local import LocalTransport

PEER = "ort-static"
OURS = ("ort-int8", "openvino-int8", "ort-fp32")


class Samples(CalibrationDataReader):
    """The bundle's own calibration samples, one at a time."""

    def __init__(self, name: str, splits: Splits) -> None:
        images = splits.preprocess(read(splits.rows["calibrate"]).images)
        self._feeds = iter([{name: image[np.newaxis]} for image in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample, None after the last."""
        return next(self._feeds, None)


def quantize_as_peer(bundle: Bundle, splits: Splits, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(str(bundle.files(bundle.variant("ort-fp32"))["model"]), str(ready))
        quantize_static(
            str(ready),
            str(out),
            Samples(bundle.core.inputs[0].name, splits),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def beside_peer(bundle: Bundle, splits: Splits, root: Path) -> Bundle:
    """A bundle whose baseline is the peer's file and whose variants are ours."""
    (root / "peer").mkdir()
    quantize_as_peer(bundle, splits, root / "peer" / "model.onnx")
    variants = [bundle.variant(name) for name in OURS]
    for variant in variants:
        for role, path in bundle.files(variant).items():
            (root / variant.files[role]).parent.mkdir(parents=True)
            (root / variant.files[role]).write_bytes(path.read_bytes())
    core = {field.name: getattr(bundle.core, field.name) for field in fields(Core) if field.name != "sha256"}
    peer = Variant(PEER, "ort", "int8", {"model": "peer/model.onnx"}, {}, bundle.variant("ort-int8").layers)
    return seal(root, core | {"baseline": peer, "variants": tuple(variants)})


@click.command()
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path, exists=True))
@click.option("--restarts", default=6, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Per variant and restart.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the measurement as JSON.")
def main(path: Path, restarts: int, seconds: float, out: Path | None) -> None:
    """Measure BUNDLE's INT8 variants beside the peer's file."""
    bundle = open_bundle(path)
    recipe = Recipe.model_validate(bundle.core.recipe)
    splits = resolve_splits(recipe.data, trains=False)
    target = read_yaml(bundle.root / "target.yaml", Target)
    with tempfile.TemporaryDirectory() as folder:
        both = beside_peer(bundle, splits, Path(folder))
        judged = [evaluation(bundle, splits, name) for name in splits.reported]
        settings = Settings(restarts=restarts, seconds=seconds)
        baseline, found = measure(both, target, judged, settings, transport=LocalTransport())
        measured = choose_default(baseline, found, recipe.budgets)
        Console(width=100).print(summary(measured, both.core))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write(measured, out / f"{bundle.core.model}-{PEER}.json")


if __name__ == "__main__":
    main()
