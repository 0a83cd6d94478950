"""What every way to predict a layer's sensitivity owes, and how they are stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgeprune.errors import CorruptError
from edgeprune.export.to_onnx import export
from edgeprune.graph.load import read_onnx
from edgeprune.metrics import spearman
from edgeprune.quantize.constants import array
from edgeprune.quantize.sensitivity.candidates import Candidates, nearest
from edgeprune.quantize.sensitivity.curvature import curvature
from edgeprune.quantize.sensitivity.divergence import divergence
from edgeprune.quantize.sensitivity.likelihood import Likelihood, divergence_of
from edgeprune.quantize.sensitivity.one_quantized import OneQuantized
from edgeprune.quantize.sensitivity.sensitivity import (
    PRECISIONS,
    LayerSensitivity,
    Sensitivity,
    read_sensitivity,
    write_sensitivity,
)
from edgeprune.quantize.spec import Range
from edgeprune.tensor import TensorSpec

CLASSES = {"output": Likelihood("classes")}
VALUES = {"output": Likelihood("value", 0.5)}


@dataclass(frozen=True)
class Subject:
    """A module, its graph, and samples for both."""

    module: nn.Module
    graph: ir.Model
    feeds: dict[str, np.ndarray]


Method = Callable[..., Sensitivity]


@pytest.fixture(params=["curvature", "divergence"])
def method(request) -> Method:
    """Either, called alike."""

    def call(subject: Subject, candidates: Candidates, likelihoods: Mapping[str, Likelihood], **options: Any):
        random = np.random.default_rng(options.pop("seed", 0))
        if request.param == "curvature":
            options.pop("passes", None)
            return curvature(subject.module, subject.graph, subject.feeds, candidates, likelihoods, random, **options)
        return divergence(subject.graph, subject.feeds, candidates, likelihoods, random, **options)

    return call


@pytest.fixture(scope="module")
def learned(digits) -> Subject:
    return Subject(digits.module, digits.model, {"input": digits.calibration[:64]})


class Line(nn.Module):
    """One value, and a layer that says nothing about it."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.ignored = nn.Linear(6, 1), nn.Linear(6, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"output": self.used(x), "other": self.ignored(x)}


@pytest.fixture(scope="module")
def line(tmp_path_factory) -> Subject:
    torch.manual_seed(0)
    module, file = Line(), tmp_path_factory.mktemp("line") / "line.onnx"
    export(module, [TensorSpec("x", "float32", ("batch", 6))], file)
    return Subject(module, read_onnx(file), {"x": np.random.default_rng(1).normal(size=(64, 6)).astype(np.float32)})


def moved(graph: ir.Model, by: float) -> dict[str, dict[str, np.ndarray]]:
    """Weights `by` times as far from the float ones as nearest rounding takes them."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, candidates in nearest(graph).items():
        real = array(graph.graph.initializers[name])
        found[name] = {precision: real + np.float32(by) * (w - real) for precision, w in candidates.items()}
    return found


def losses(sensitivity: Sensitivity) -> dict[tuple[str, str], float]:
    return {(name, one): loss for name, layer in sensitivity.layers.items() for one, loss in layer.losses.items()}


def true_losses(subject: Subject, candidates: Candidates, x: np.ndarray, ranges) -> dict[tuple[str, str], float]:
    with OneQuantized(subject.graph, candidates, ranges, batch=len(x)) as graph:
        exact = graph.outputs({"input": x})
        return {
            (name, one): float(divergence_of(CLASSES, exact, graph.outputs({"input": x}, name, one)).mean())
            for name in candidates
            for one in PRECISIONS
        }


def test_weights_that_do_not_change_cost_nothing(method, learned):
    found = method(learned, moved(learned.graph, 0.0), CLASSES)
    assert losses(found) == pytest.approx(dict.fromkeys(losses(found), 0.0), abs=1e-9)
    assert all(layer.channels == pytest.approx(0.0, abs=1e-9) for layer in found.layers.values())


def test_twice_the_error_costs_four_times_as_much(method, learned):
    once, twice = (losses(method(learned, moved(learned.graph, by), CLASSES)) for by in (0.1, 0.2))
    assert once == pytest.approx({key: loss / 4 for key, loss in twice.items()}, rel=0.1, abs=1e-7)


def test_of_a_linear_model_the_loss_is_what_the_formula_says(method, line):
    """D = 1/2 E[(delta . x / sigma)^2]; a layer that no answer depends on costs nothing."""
    candidates = nearest(line.graph)
    found = method(line, candidates, VALUES, passes=100)
    for precision in PRECISIONS:
        delta = candidates["used.weight"][precision] - array(line.graph.graph.initializers["used.weight"])
        expected = ((line.feeds["x"] @ delta[0] / 0.5) ** 2).mean() / 2
        assert found.layers["used.weight"].losses[precision] == pytest.approx(expected, rel=1e-3)
    assert found.layers["ignored.weight"].losses == dict.fromkeys(PRECISIONS, 0.0)


def test_the_rounding_of_the_input_counts(method, line):
    """D = 1/2 E[((w + delta) . (x + epsilon) - w . x)^2 / sigma^2], where curvature leaves delta . epsilon out."""
    candidates, x = moved(line.graph, 0.1), line.feeds["x"].astype(np.float64)
    w = array(line.graph.graph.initializers["used.weight"])[0]
    step = 8 / 255
    rounded = (np.clip(np.rint(x / step) + 128, 0, 255) - 128) * step
    found = method(line, candidates, VALUES, passes=100, ranges={"x": Range(-4, 4)})
    for precision in PRECISIONS:
        change = rounded @ candidates["used.weight"][precision][0] - x @ w
        expected = ((change / 0.5) ** 2).mean() / 2
        assert found.layers["used.weight"].losses[precision] == pytest.approx(expected, rel=0.03)


def test_the_order_of_samples_does_not_matter(method, line):
    candidates = nearest(line.graph)
    turned = Subject(line.module, line.graph, {"x": line.feeds["x"][::-1].copy()})
    found = [losses(method(one, candidates, VALUES, passes=100)) for one in (line, turned)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_seed_decides_all(method, learned):
    candidates = nearest(learned.graph)
    same, again, other = (losses(method(learned, candidates, CLASSES, seed=seed, passes=1.5)) for seed in (0, 0, 1))
    assert same == again != other


def test_it_takes_three_passes_over_the_samples(method, learned):
    assert method(learned, nearest(learned.graph), CLASSES).sample_forwards == 3 * 64


def test_it_foretells_the_divergence_on_other_samples(method, learned, digits):
    """In order, and, where the error is small, in size."""
    candidates = nearest(learned.graph)
    expected = true_losses(learned, candidates, digits.images[:256], digits.ranges)
    found = losses(method(learned, candidates, CLASSES, ranges=digits.ranges))
    assert spearman([expected[key] for key in expected], [found[key] for key in expected]) > 0.8
    for name in candidates:
        assert 1 / 3 < found[name, "int8"] / expected[name, "int8"] < 3


def test_channels_that_keep_their_weights_cost_nothing_and_the_others_make_up_the_loss(method, learned):
    candidates = moved(learned.graph, 1.0)
    real = array(learned.graph.graph.initializers["conv2.weight"])
    candidates["conv2.weight"]["int8"] = real
    candidates["conv2.weight"]["int4"][5:] = real[5:]
    layer = method(learned, candidates, CLASSES).layers["conv2.weight"]
    assert layer.channels.shape == (64,)
    assert (layer.channels[:5] > 0).all()
    assert (layer.channels[5:] == 0).all()


def test_what_is_written_is_read_back(tmp_path):
    layers = {"b.weight": LayerSensitivity({"int8": 1e-6, "int4": 0.25}, np.array([0.1, 0.15]))}
    write_sensitivity(Sensitivity(layers, "curvature", 1536.0), tmp_path / "sensitivity.json")
    found = read_sensitivity(tmp_path / "sensitivity.json")
    assert (found.method, found.sample_forwards) == ("curvature", 1536.0)
    assert found.layers["b.weight"].losses == layers["b.weight"].losses
    np.testing.assert_array_equal(found.layers["b.weight"].channels, layers["b.weight"].channels)


@pytest.mark.parametrize("text", ["", "[]", '{"layers": {"w": 1}}', '{"layers": {}, "method": "curvature"}'])
def test_a_file_that_is_none_is_refused(text, tmp_path):
    (tmp_path / "sensitivity.json").write_text(text)
    with pytest.raises(CorruptError, match="measure them again"):
        read_sensitivity(tmp_path / "sensitivity.json")
