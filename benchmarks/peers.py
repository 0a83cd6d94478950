"""EdgePrune's INT8 files against those that other tools make of the same model with the same calibration samples.

    python benchmarks/peers.py build/resnet50-cpu --nncf build/nncf/bin/python --out bench_results/peers

Each peer gets what its documentation recommends:

- `ort-static`: `quant_pre_process`, then `quantize_static` as Q/DQ with unsigned activations and signed weights per
  channel; opened by ONNX Runtime and by OpenVINO, which reads it too
- `ort-dynamic`: `quantize_dynamic` with signed weights
- `nncf`: `nncf.quantize`, told where the model is a transformer; of the ONNX, opened by both, and of OpenVINO's format

Their files and ours are variants of one bundle and take turns in one run. What could not be made or opened is told.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.table import Table

from edgeprune.bundle import Bundle, Core, Variant, open_bundle, seal
from edgeprune.choose import choose_default
from edgeprune.cli.program import Program
from edgeprune.data.preprocess import feeds, read_preprocess
from edgeprune.data.splits import Splits, resolve_splits
from edgeprune.interleaved.run import measure
from edgeprune.interleaved.settings import EvalSplit, Settings
from edgeprune.metrics import Interval, order_statistic_interval
from edgeprune.recipe import Recipe, read_yaml
from edgeprune.report.tables import summary
from edgeprune.results import Measured, Measurement, write
from edgeprune.targets.target import Target
from edgeprune.transport.local import LocalTransport

SCRIPT = Path(__file__).with_name("nncf_file.py")
OPTIONS: dict[str, dict[str, str]] = {"ort": {}, "openvino": {"INFERENCE_PRECISION_HINT": "f32"}}
RUNTIMES = {
    "ort-static": ("ort", "openvino"),
    "ort-dynamic": ("ort",),
    "nncf": ("ort", "openvino"),
    "nncf-ir": ("openvino",),
}
Samples = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Ratio:
    """How many times faster our file is than a peer's; above 1 it is faster."""

    ours: str
    peer: str
    faster: float
    interval: Interval | None


def make_peers(source: Path, samples: Samples, out: Path, nncf: Path | None) -> dict[str, str]:
    """Let every peer quantize `source` into `out`/<peer>/; what failed, by peer, with its reason."""
    failed: dict[str, str] = {}

    def attempt(name: str, make: Callable[[Path], None]) -> None:
        folder = out / name
        folder.mkdir(parents=True)
        try:
            make(folder)
        except Exception as error:  # a peer may raise anything, and the others are still compared
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

    attempt("ort-static", lambda folder: _static(_prepared(source, folder), samples, folder / "model.onnx"))
    attempt("ort-dynamic", lambda folder: _dynamic(_prepared(source, folder), folder / "model.onnx"))
    if nncf is None:
        failed["nncf"] = "not asked for: give --nncf PYTHON, an interpreter that has it (benchmarks/requirements.txt)"
    else:
        attempt("nncf", lambda folder: _nncf(nncf, source, samples, folder))
    return failed


def peer_variants(root: Path, folder: Path) -> list[Variant]:
    """What the peers made in `folder`, once for each runtime that reads it; paths relative to `root`."""
    found = []
    for peer, runtimes in RUNTIMES.items():
        name = "model.xml" if peer == "nncf-ir" else "model.onnx"
        model = folder / peer.removesuffix("-ir") / name
        if not model.is_file():
            continue
        files = {"model": model.relative_to(root).as_posix()}
        if name == "model.xml":
            files["weights"] = model.with_suffix(".bin").relative_to(root).as_posix()
        found += [Variant(f"{peer}@{one}", one, "int8", files, OPTIONS[one], ()) for one in runtimes]
    return found


def beside_peers(
    bundle: Bundle, source: Path, samples: Samples, root: Path, nncf: Path | None
) -> tuple[Bundle, dict[str, str]]:
    """A bundle with the same baseline whose variants are ours in INT8 and the peers'; what failed, by peer."""
    ours = [one for one in bundle.core.variants if one.precision == "int8" and one.backend in OPTIONS]
    for variant in (bundle.core.baseline, *ours):
        for role, path in bundle.files(variant).items():
            (root / variant.files[role]).parent.mkdir(parents=True, exist_ok=True)
            (root / variant.files[role]).write_bytes(path.read_bytes())
    failed = make_peers(source, samples, root / "peers", nncf)
    core = {field.name: getattr(bundle.core, field.name) for field in fields(Core) if field.name != "sha256"}
    variants = (*ours, *peer_variants(root, root / "peers"))
    return seal(root, core | {"variants": variants}), failed


def ratios(measured: Measured) -> list[Ratio]:
    """Our fastest variant against every peer that ran, the strongest peer first."""
    timed = [one for one in measured.measurements if one.samples_ms]
    ours = [one for one in timed if "@" not in one.variant]
    if not ours:
        return []
    best = min(ours, key=_milliseconds)
    found = [Ratio(best.variant, one.variant, *_faster(best, one)) for one in timed if "@" in one.variant]
    return sorted(found, key=lambda ratio: ratio.faster)


def _milliseconds(one: Measurement) -> float:
    return float(np.median([np.median(run) for run in one.samples_ms]))


def _faster(ours: Measurement, peer: Measurement) -> tuple[float, Interval | None]:
    """Per restart, in which both took turns; the median of those, and the interval of that median."""
    each = [float(np.median(b) / np.median(a)) for a, b in zip(ours.samples_ms, peer.samples_ms, strict=True)]
    return float(np.median(each)), order_statistic_interval(each)


class _Reader(CalibrationDataReader):
    """Samples one at a time."""

    def __init__(self, samples: Samples) -> None:
        count = len(next(iter(samples.values())))
        rows = ({name: array[index : index + 1] for name, array in samples.items()} for index in range(count))
        self._rows = iter(rows)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next sample, None after the last."""
        return next(self._rows, None)


def _prepared(source: Path, folder: Path) -> Path:
    """As `quant_pre_process` leaves it, without the shapes it noted.

    `quantize_dynamic` transposes a Gemm's weight and then fails on the shape that was noted of it.
    """
    ready = folder / "ready.onnx"
    quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
    model = onnx.load(ready)
    del model.graph.value_info[:]
    onnx.save(model, ready)
    return ready


def _static(ready: Path, samples: Samples, out: Path) -> None:
    quantize_static(
        str(ready),
        str(out),
        _Reader(samples),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    ready.unlink()


def _dynamic(ready: Path, out: Path) -> None:
    quantize_dynamic(str(ready), str(out), weight_type=QuantType.QInt8)
    ready.unlink()


def _nncf(python: Path, source: Path, samples: Samples, folder: Path) -> None:
    np.savez(folder / "samples.npz", **samples)
    done = subprocess.run(
        [python, SCRIPT, source, folder / "samples.npz", folder], capture_output=True, text=True, check=False
    )
    (folder / "samples.npz").unlink()
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])


def _shown(found: list[Ratio], failed: Mapping[str, str]) -> Table:
    table = Table("peer", "ours", "ours is faster by", "95 % interval", box=None)
    for one in found:
        span = "-" if one.interval is None else f"{one.interval.low:.2f} to {one.interval.high:.2f}"
        table.add_row(one.peer, one.ours, f"{one.faster:.2f} x", span)
    for name, reason in failed.items():
        table.add_row(name, "-", "-", reason)
    return table


@click.command(cls=Program)
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path, exists=True))
@click.option("--nncf", type=click.Path(path_type=Path, exists=True), help="An interpreter that has NNCF.")
@click.option(
    "--source", type=click.Path(path_type=Path, exists=True), help="The float ONNX that peers get, if another."
)
@click.option("--restarts", default=6, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Per variant and restart.")
@click.option("--samples", default=300, show_default=True, help="Calibration samples at most.")
@click.option("--judged", default=1000, show_default=True, help="Samples of each split that judge accuracy at most.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the measurements as JSON.")
def main(
    path: Path,
    nncf: Path | None,
    source: Path | None,
    restarts: int,
    seconds: float,
    samples: int,
    judged: int,
    out: Path | None,
) -> None:
    """Measure BUNDLE's INT8 variants beside the peers' files."""
    bundle = open_bundle(path)
    recipe = Recipe.model_validate(bundle.core.recipe)
    splits = resolve_splits(recipe.data, trains=False, preprocess=read_preprocess(bundle.root))
    target = read_yaml(bundle.root / "target.yaml", Target)
    calibration = _first(bundle, splits, "calibrate", samples)
    with tempfile.TemporaryDirectory() as folder:
        both, failed = beside_peers(bundle, source or _float(bundle), calibration, Path(folder), nncf)
        answered = _first(bundle, splits, "report", judged)
        judges = [EvalSplit("report", lambda: iter([answered]), None)]
        settings = Settings(restarts=restarts, seconds=seconds)
        baseline, measurements = measure(both, target, judges, settings, transport=LocalTransport())
        measured = choose_default(baseline, measurements, recipe.budgets)
        console = Console(width=110)
        console.print(summary(measured, both.core))
        failed |= {one.variant: one.unmeasured for one in measured.measurements if one.unmeasured}
        console.print(_shown(ratios(measured), failed))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write(measured, out / f"{path.name}.json")
        record = {"ratios": [asdict(one) for one in ratios(measured)], "failed": failed}
        (out / f"{path.name}-ratios.json").write_text(json.dumps(record, indent=1) + "\n")


def _float(bundle: Bundle) -> Path:
    """The model that was quantized: pruned where ours is."""
    variant = next((one for one in bundle.core.variants if one.name == "ort-fp32"), bundle.core.baseline)
    return bundle.files(variant)["model"]


def _first(bundle: Bundle, splits: Splits, name: str, count: int) -> dict[str, NDArray[Any]]:
    """The first samples of a split as the model takes them."""
    given = splits.preprocess(splits.first(name, count).columns)
    return {name: array[:count] for name, array in feeds(bundle.core.inputs, given, splits.info.name).items()}


if __name__ == "__main__":
    main()
