from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest

from edgeprune.bench import EvalSplit, Settings, compare, measure
from edgeprune.bundle import LayerPlan, Variant, seal
from edgeprune.errors import CorruptError, DataError, DeviceError
from edgeprune.metrics import paired_drop, snr_db, wilson
from edgeprune.progress import Silent, SilentTask
from edgeprune.results import Measured, read_measured, write
from edgeprune.targets.load import load_target
from edgeprune.tensor import TensorSpec
from edgeprune.transport.local import LocalTransport

QUICK = Settings(restarts=2, seconds=0.04, rounds=4, least=2, most=20, warm_min_s=0, warm_max_s=0.3)
CPU, PI, JETSON = load_target("cpu"), load_target("rpi5"), load_target("jetson")

FLOAT = """<ir_version: 10, opset_import: ["" : 20]>
g (float[batch,8] x) => (float[batch,4] y) { [fc] y = MatMul(x, w) }"""
QDQ = """<ir_version: 10, opset_import: ["" : 20]>
g (float[batch,8] x) => (float[batch,4] y) {
  [q] q = QuantizeLinear(x, s, z)
  [d] d = DequantizeLinear(q, s, z)
  [fc] y = MatMul(d, w)
}"""
SLOW = """<ir_version: 10, opset_import: ["" : 20]>
g (float[batch,8] x) => (float[batch,4] y) {
  [widen] a = MatMul(x, w1)
  [square] b = MatMul(a, w2)
  [cube] c = MatMul(b, w2)
  [fc] y = MatMul(c, w3)
}"""

random = np.random.default_rng(0)
WEIGHT = random.normal(size=(8, 4)).astype(np.float32)
X = random.normal(size=(60, 8)).astype(np.float32)
LABELS = np.argmax(X @ WEIGHT + random.normal(0, 1, (60, 4)), axis=1)
FILES = {
    "float": (FLOAT, {"w": WEIGHT}),
    # 3 bits' worth of levels, so that classes do change
    "coarse": (QDQ, {"w": WEIGHT, "s": np.float32(1.0), "z": np.int8(0)}),
    "slow": (
        SLOW,
        {
            "w1": np.ones((8, 800), np.float32),
            "w2": np.full((800, 800), 1e-3, np.float32),
            "w3": np.ones((800, 4), np.float32),
        },
    ),
}
SPLITS = (EvalSplit("select", {"x": X}, LABELS), EvalSplit("unlabelled", {"x": X[:30]}, None))


@pytest.fixture
def bundle_of(tmp_path):
    """A sealed bundle from variants `(name, backend, file)`; the first is the baseline."""

    def bundle_of(*described):
        root = tmp_path / "bundle"
        variants = []
        for name, backend, file in described:
            path = root / "variants" / name / "model.onnx"
            path.parent.mkdir(parents=True)
            if file == "broken":
                path.write_bytes(b"not an ONNX file")
            else:
                text, arrays = FILES[file]
                model = onnx.parser.parse_model(text)
                model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in arrays.items())
                onnx.save(model, path)
            layers = (LayerPlan("fc", "MatMul", "w3" if file == "slow" else "w", "fp32"),)
            options = {"INFERENCE_PRECISION_HINT": "f32"} if backend == "openvino" else {}
            files = {"model": path.relative_to(root).as_posix()}
            variants.append(Variant(name, backend, "int8" if file == "coarse" else "fp32", files, options, layers))
        core = {
            "model": "tiny",
            "target": "cpu",
            "untrained": False,
            "seed": 0,
            "command": "none",
            "inputs": (TensorSpec("x", "float32", ("batch", 8)),),
            "outputs": (TensorSpec("y", "float32", ("batch", 4)),),
            "baseline": variants[0],
            "variants": tuple(variants[1:]),
            **{name: {} for name in ("splits", "budgets", "pruning", "assumptions", "versions", "recipe")},
        }
        return seal(root, core)

    return bundle_of


class Watched(LocalTransport):
    """This machine, with all that it started; `programs` replace the worker of the n-th start."""

    def __init__(self, programs=None):
        super().__init__()
        self.programs = programs or {}
        self.started = []

    def start(self, argv):
        program = self.programs.get(len(self.started))
        self.started.append(super().start([self.python, "-c", program] if program else argv))
        return self.started[-1]


def everything_ended(transport):
    return all(process.poll() is not None for process in transport.started)


def test_a_variant_is_measured_beside_its_baseline(bundle_of, tmp_path):
    bundle = bundle_of(("baseline", "ort", "float"), ("same", "ort", "float"), ("slow", "ort", "slow"))
    transport = Watched()
    baseline, (same, slow) = measure(bundle, CPU, SPLITS, QUICK, transport=transport)

    assert everything_ended(transport)
    assert len(transport.started) == QUICK.restarts * 3
    for one in (baseline, same, slow):
        assert len(one.samples_ms) == QUICK.restarts
        assert all(QUICK.rounds * QUICK.least <= len(run) <= QUICK.rounds * QUICK.most for run in one.samples_ms)
        assert len(one.load_ms) == len(one.first_inference_ms) == QUICK.restarts
        assert one.peak_memory_bytes is not None
        assert one.environment is not None
        assert one.unmeasured == ""
        assert one.bundle == bundle.sha256
        assert one.size_bytes == bundle.size_bytes(bundle.variant(one.variant))
        assert [(layer.name, layer.effective) for layer in one.layers] == [("fc", "fp32")]
        assert one.energy.joules is not None or one.energy.reason
    assert baseline.speedup is None
    assert same.speedup is not None
    assert same.speedup.low < 1.5
    assert same.speedup.high > 0.67
    assert slow.speedup is not None
    assert slow.speedup.high < 1

    record = Measured("same", "it is the fastest", baseline, (same, slow))
    write(record, tmp_path / "measured.json")
    assert read_measured(tmp_path / "measured.json") == record


def test_accuracy_is_that_of_the_outputs_and_its_drop_is_paired(bundle_of):
    bundle = bundle_of(("baseline", "ort", "float"), ("coarse", "ort", "coarse"))
    baseline, (coarse,) = measure(bundle, CPU, SPLITS, QUICK, transport=LocalTransport())

    right = np.argmax(X @ WEIGHT, axis=1) == LABELS
    rounded = np.clip(np.rint(X), -128, 127) @ WEIGHT
    still = np.argmax(rounded, axis=1) == LABELS
    assert right.sum() != still.sum()
    (only,) = baseline.accuracy
    assert (only.metric, only.split, only.samples, only.drop, only.source) == ("top1", "select", 60, None, "measured")
    assert only.value == wilson(int(right.sum()), 60)
    select, unlabelled = coarse.accuracy
    assert select.value == wilson(int(still.sum()), 60)
    assert select.drop == paired_drop(right, still)

    same = np.argmax(rounded[:30], axis=1) == np.argmax(X[:30] @ WEIGHT, axis=1)
    assert (unlabelled.metric, unlabelled.drop) == ("agreement", None)
    assert unlabelled.value == wilson(int(same.sum()), 30)
    decibels = f"{snr_db(X[:30] @ WEIGHT, rounded[:30]):.1f} dB"
    assert any(decibels in warning for warning in coarse.warnings)


@pytest.mark.parametrize("file", ["broken"])
def test_a_variant_that_cannot_be_opened_is_a_row_that_says_why(bundle_of, file):
    bundle = bundle_of(("baseline", "ort", "float"), ("bad", "ort", file), ("odd", "oort", "float"))
    baseline, (bad, odd) = measure(bundle, CPU, SPLITS, QUICK, transport=LocalTransport())
    assert baseline.samples
    assert "not an ONNX file" in bad.unmeasured
    assert "did you mean 'ort'" in odd.unmeasured
    for one in (bad, odd):
        assert (one.samples, one.accuracy, one.speedup, one.layers) == (0, (), None, ())


def test_without_its_baseline_nothing_is_measured(bundle_of):
    bundle = bundle_of(("baseline", "ort", "broken"), ("same", "ort", "float"))
    transport = Watched()
    with pytest.raises(CorruptError):
        measure(bundle, CPU, SPLITS, QUICK, transport=transport)
    assert everything_ended(transport)


def test_a_worker_that_dies_is_told_by_its_variant_and_nothing_is_left_running(bundle_of):
    bundle = bundle_of(("baseline", "ort", "float"), ("doomed", "ort", "float"))
    transport = Watched({1: "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 9)"})
    with pytest.raises(DeviceError, match="doomed: the worker was killed by signal 9"):
        measure(bundle, CPU, SPLITS, QUICK, transport=transport)
    assert everything_ended(transport)


def test_an_interrupt_leaves_nothing_running(bundle_of):
    class InterruptedTask(SilentTask):
        def advance(self, steps=1, note=""):
            raise KeyboardInterrupt

    class Interrupted(Silent):
        def task(self, name, total=None):
            return contextlib.nullcontext(InterruptedTask())

    bundle = bundle_of(("baseline", "ort", "float"), ("same", "ort", "float"))
    transport = Watched()
    with pytest.raises(KeyboardInterrupt):
        measure(bundle, CPU, SPLITS, QUICK, transport=transport, progress=Interrupted())
    assert len(transport.started) == 2
    assert everything_ended(transport)


def test_without_samples_nothing_is_measured(bundle_of):
    with pytest.raises(DataError, match="give at least one split"):
        measure(bundle_of(("baseline", "ort", "float")), CPU, (), QUICK, transport=LocalTransport())


def test_a_device_that_is_not_here_has_accuracy_and_no_latency(bundle_of):
    bundle = bundle_of(("baseline", "ort", "float"), ("ort-int8", "ort", "coarse"))
    baseline, (variant,) = measure(bundle, PI, SPLITS, QUICK, transport=LocalTransport())
    for one in (baseline, variant):
        assert one.unmeasured == "no device"
        assert (one.samples, one.environment, one.layers, one.peak_memory_bytes) == (0, None, (), None)
        assert one.accuracy[0].source.startswith("simulated (ONNX Runtime 1.")
        assert one.accuracy[0].source.endswith(" machine)")


def test_tensorrt_is_simulated_as_its_file_says_with_qdq_in_float(bundle_of):
    bundle = bundle_of(("baseline", "ort", "float"), ("tensorrt-int8", "tensorrt", "coarse"))
    _, (variant,) = measure(bundle, JETSON, SPLITS, QUICK, transport=LocalTransport())
    path = bundle.files(bundle.variant("tensorrt-int8"))["model"]
    expected = onnx.reference.ReferenceEvaluator(str(path)).run(None, {"x": X})[0]
    right = int(np.sum(np.argmax(expected, axis=1) == LABELS))
    assert variant.accuracy[0].value == wilson(right, 60)
    assert "graph optimization off, so that Q/DQ is computed in float" in variant.accuracy[0].source
    assert (variant.backend, variant.unmeasured) == ("tensorrt", "no device")


def test_the_bundle_itself_is_left_as_it_was(bundle_of, tmp_path):
    bundle = bundle_of(("baseline", "ort", "float"))
    shutil.copytree(bundle.root, tmp_path / "copy")
    measure(bundle, PI, SPLITS, QUICK, transport=LocalTransport())

    def files(root: Path):
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert files(bundle.root) == files(tmp_path / "copy")


def test_a_candidate_that_always_takes_half_as_long_is_twice_as_fast():
    rounds = [[1.0 * n, 1.1 * n, 9.0 * n] for n in range(1, 31)]  # whatever disturbs a round disturbs both
    found = compare(rounds, [[ms / 2 for ms in part] for part in rounds])
    assert found is not None
    assert (found.estimate, found.low, found.high) == pytest.approx((2, 2, 2))


def test_the_interval_holds_the_median_of_the_rounds():
    drawn = np.random.default_rng(0).normal(3, 0.2, 30)
    found = compare([[ratio] for ratio in drawn], [[1.0]] * 30)
    assert found is not None
    assert found.estimate == pytest.approx(np.median(drawn))
    assert found.low < 3 < found.high


def test_a_few_rounds_make_no_interval():
    assert compare([[1.0]] * 3, [[1.0]] * 3) is None
