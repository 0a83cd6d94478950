"""A network that has learned the digits, and small graphs as text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgeprune.backends.backend import Feeds
from edgeprune.data.datasets import describe, read
from edgeprune.export.to_onnx import export
from edgeprune.graph.load import read_onnx
from edgeprune.models.zoo import build, specs_of
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.spec import Range
from edgeprune.recipe import TrainPart
from edgeprune.train.fit import fit


@dataclass(frozen=True)
class Digits:
    """The cnn of the zoo after a few epochs, with what judges it."""

    file: Path
    module: nn.Module
    """What it was exported from."""
    calibration: np.ndarray
    """[128, 1, 8, 8], preprocessed."""
    images: np.ndarray
    """Of the report split."""
    labels: np.ndarray
    ranges: dict[str, Range]

    @property
    def model(self) -> ir.Model:
        return read_onnx(self.file)


def in_batches(x: np.ndarray, size: int) -> Iterator[Feeds]:
    return ({"input": x[start : start + size]} for start in range(0, len(x), size))


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Digits:
    info = describe("digits")
    torch.manual_seed(0)
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    preprocess = info.preprocess
    for _ in fit(model, read(info.splits["train"], info), preprocess, TrainPart(lr=0.003), epochs=4, seed=0):
        pass
    file = tmp_path_factory.mktemp("digits") / "cnn.onnx"
    export(model, specs_of({"input_shape": (1, 8, 8)}), file)
    calibration = preprocess(read(info.splits["calibrate"], info).columns)["image"]
    report = read(info.splits["report"], info)
    ranges = calibrate(file, in_batches(calibration, 32))
    return Digits(file, model, calibration, preprocess(report.columns)["image"], report.labels, ranges)


@pytest.fixture(scope="session")
def parse() -> Callable[..., ir.Model]:
    """A graph in ONNX's text format `(inputs) => (outputs) { nodes }`, with its weights as arrays by name."""

    def parse(text: str, **weights: Any) -> ir.Model:
        proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 20]> main {text}')
        for name, array in weights.items():
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))

    return parse


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., np.ndarray]:
    """The first output of a graph, computed in float as the file says."""

    def evaluate(model: ir.Model, **feeds: np.ndarray) -> np.ndarray:
        return ort.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, feeds)[0]

    return evaluate
