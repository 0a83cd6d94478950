"""What the vision models of the zoo must go through: cut, exported, and run in integers by each runtime.

ResNet-50 is stood for by its bottlenecks, one a stage: it only repeats them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgeprune.backends import EFFECTIVE, LOAD, LOWER
from edgeprune.bundle import LayerPlan
from edgeprune.errors import MissingError
from edgeprune.export import parity
from edgeprune.export.to_onnx import export
from edgeprune.graph.cost import macs
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.models.projected_resnet import Bottleneck, ProjectedResNet
from edgeprune.models.zoo import build, specs_of
from edgeprune.prune.pruner import PruneReport
from edgeprune.prune.structured import StructuredPruner
from edgeprune.prune.surgery import SurgeryLog, mask
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.emission.flavour import FLAVOURS
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.spec import Range
from edgeprune.registry import resolve
from edgeprune.targets.load import load_target

SHAPE = (3, 32, 32)
SAMPLES = 16
MODELS = ("cnn-fc", "resnet18", "bottlenecks", "mobilenetv2")


@dataclass(frozen=True)
class Case:
    """A model of random weights, half of whose multiply-accumulates were cut, and its ONNX file."""

    dense: nn.Module
    cut: nn.Module
    log: SurgeryLog
    report: PruneReport
    file: Path
    images: np.ndarray
    """[SAMPLES, 3, 32, 32]."""
    ranges: dict[str, Range]

    @property
    def graph(self) -> ir.Model:
        return read_onnx(self.file)


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory) -> Case:
    torch.manual_seed(0)
    dense = _build(request.param).eval()
    cut = copy.deepcopy(dense)
    pruner = StructuredPruner(cut, torch.zeros(1, *SHAPE), keep=0.5, align=8)
    pruner.step()
    file = tmp_path_factory.mktemp(request.param) / "model.onnx"
    export(cut, specs_of({"input_shape": SHAPE}), file)
    images = _smooth_images()
    return Case(dense, cut, pruner.log, pruner.report, file, images, calibrate(file, [{"input": images}]))


@pytest.fixture(params=sorted(LOAD))
def backend(request):
    try:
        resolve(LOAD, request.param, "runtime")
    except MissingError as error:
        pytest.skip(str(error))
    return request.param


def test_cutting_computes_what_masking_computes(case):
    masked = copy.deepcopy(case.dense)
    mask(masked, case.log)
    expected, found = _scores(masked, case.images), _scores(case.cut, case.images)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_its_onnx_computes_what_it_computes(case):
    scale = max(1.0, np.abs(_scores(case.cut, case.images)).max())
    assert parity.check(case.cut, case.file, {"input": case.images}) <= 1e-4 * scale


def test_module_and_graph_agree_on_the_multiply_accumulates(case):
    assert macs(case.graph) == case.report.macs_after <= 0.5 * case.report.macs_before


def test_every_weight_keeps_its_name(case):
    counted = {f"{layer.name}.weight" for layer in case.report.layers}
    assert {layer.weight for layer in weighted_layers(case.graph)} == counted


def test_every_layer_runs_in_int8(case, backend, tmp_path):
    plan = uniform_plan(case.graph, "int8")
    write_onnx(emit(case.graph, plan, case.ranges, FLAVOURS[backend]), tmp_path / "int8.onnx")
    lowered = resolve(LOWER, backend, "runtime")(tmp_path / "int8.onnx", load_target("cpu"), "int8", tmp_path)
    with resolve(LOAD, backend, "runtime")(lowered.files, lowered.options, threads=1, batch=SAMPLES) as runner:
        found, evidence = runner.infer({"input": case.images})["output"], runner.evidence()
    plans = [LayerPlan(layer.name, layer.op, layer.weight, "int8") for layer in weighted_layers(case.graph)]
    layers = resolve(EFFECTIVE, backend, "runtime")(evidence, plans)
    assert [(layer.name, layer.reason) for layer in layers if layer.effective != "int8"] == []
    expected = _scores(case.cut, case.images)
    assert np.mean((expected - found) ** 2) < 0.1 * np.mean(expected**2)  # a wrong scale anywhere gives 1 and more


def _build(name: str) -> nn.Module:
    if name == "bottlenecks":
        return ProjectedResNet(Bottleneck, (1, 1, 1, 1), input_shape=SHAPE, classes=10)
    return build(name, {"input_shape": SHAPE, "classes": 10})


def _scores(model: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(images)).numpy()


def _smooth_images() -> np.ndarray:
    """Noise in which near pixels are alike, as in photographs."""
    random = np.random.default_rng(0)
    coarse = random.normal(size=(SAMPLES, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)
    return (coarse + 0.3 * random.normal(size=coarse.shape)).astype(np.float32)
