from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeprune.results import Measured, Measurement

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def peers(program):
    return program("peers")


@pytest.fixture
def source(tmp_path) -> Path:
    """With a Gemm whose weight is transposed, and with the shapes that a checked file notes of every value."""
    text = """<ir_version: 8, opset_import: ["" : 20]> main (float[batch, 3, 8, 8] x) => (float[batch, 10] y) {
      [conv] a = Conv<pads = [1, 1, 1, 1]>(x, w)  [relu] b = Relu(a)  [flat] c = Flatten(b)
      [fc] y = Gemm<transB = 1>(c, v)
    }"""
    proto = onnx.parser.parse_model(text)
    for name, shape in (("w", (4, 3, 3, 3)), ("v", (10, 256))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(RNG.normal(size=shape).astype(np.float32), name))
    onnx.save(onnx.shape_inference.infer_shapes(proto), tmp_path / "source.onnx")
    return tmp_path / "source.onnx"


@pytest.fixture
def samples() -> dict[str, np.ndarray]:
    return {"x": RNG.normal(size=(4, 3, 8, 8)).astype(np.float32)}


def test_each_peer_leaves_a_file_and_one_that_is_not_asked_for_is_told(peers, source, samples, tmp_path):
    failed = peers.make_peers(source, samples, tmp_path / "peers", None)
    assert failed.keys() == {"nncf"}
    assert "not asked for" in failed["nncf"]
    variants = peers.peer_variants(tmp_path, tmp_path / "peers")
    assert [one.name for one in variants] == ["ort-static@ort", "ort-static@openvino", "ort-dynamic@ort"]
    operators = {
        one.name: {node.op_type for node in onnx.load(tmp_path / one.files["model"]).graph.node} for one in variants
    }
    assert "QuantizeLinear" in operators["ort-static@ort"]
    assert "DynamicQuantizeLinear" in operators["ort-dynamic@ort"]


def test_a_peer_that_fails_is_told_with_its_reason_and_the_others_stay(peers, source, samples, tmp_path, monkeypatch):
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no NNCF here')\n")
    monkeypatch.setattr(peers, "SCRIPT", script)
    failed = peers.make_peers(source, samples, tmp_path / "peers", Path(sys.executable))
    assert failed == {"nncf": "RuntimeError: no NNCF here"}
    assert (tmp_path / "peers" / "ort-static" / "model.onnx").is_file()


def test_our_fastest_is_set_against_each_peer_the_strongest_first(peers):
    def timed(variant: str, ms: float) -> Measurement:
        runs = tuple((ms * slower,) * 5 for slower in (1.0, 1.1, 1.2, 1.0, 1.0, 1.5))  # a machine that is disturbed
        return Measurement("b", "m", "cpu", variant, "ort", "int8", 1, (), samples_ms=runs)

    baseline = timed("baseline", 8)
    found = peers.ratios(
        Measured(None, "", baseline, (timed("ours-a", 3), timed("ours-b", 2), timed("x@ort", 4), timed("y@ort", 3)))
    )
    assert [(one.ours, one.peer) for one in found] == [("ours-b", "y@ort"), ("ours-b", "x@ort")]
    assert [one.faster for one in found] == pytest.approx([1.5, 2.0])
    assert found[0].interval.low == pytest.approx(found[0].interval.high) == pytest.approx(1.5)
