from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest

from edgeprune.bundle import LayerPlan, Task, Variant, seal
from edgeprune.errors import CorruptError, DataError, DeviceError
from edgeprune.interleaved.run import _heat, measure
from edgeprune.interleaved.settings import EvalSplit, Settings
from edgeprune.judge import METRICS, Judge, classified
from edgeprune.metrics import paired_drop, snr_db, wilson
from edgeprune.progress import Silent, SilentTask
from edgeprune.results import Environment, Measured, read_measured, write
from edgeprune.scenario import LOADGEN, Scenario
from edgeprune.targets.load import load_target
from edgeprune.tensor import TensorSpec
from edgeprune.transport.local import LocalTransport

QUICK = Settings(restarts=2, seconds=0.04, rounds=4, least=2, most=20, warm_min_s=0, warm_max_s=0.3)
SIX = replace(QUICK, restarts=6)
CPU, PI, NUC, JETSON = (load_target(name) for name in ("cpu", "rpi5", "intel-nuc", "jetson"))

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
JUDGE = Judge(LABELS, (METRICS["top1"],), partial(classified, classes=4))


def parts(*sizes):
    """Samples a part at a time: as many as `sizes` say, in order."""
    ends = np.cumsum(sizes)
    return lambda: ({"x": X[end - size : end]} for size, end in zip(sizes, ends, strict=True))


SPLITS = (EvalSplit("select", parts(25, 35), JUDGE), EvalSplit("unlabelled", parts(30), None))


def precision(name, file):
    return "bf16" if name.endswith("bf16") else "int8" if file == "coarse" else "fp32"


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
            variants.append(Variant(name, backend, precision(name, file), files, options, layers))
        core = {
            "model": "tiny",
            "target": "cpu",
            "untrained": False,
            "seed": 0,
            "command": "none",
            "inputs": (TensorSpec("x", "float32", ("batch", 8)),),
            "outputs": (TensorSpec("y", "float32", ("batch", 4)),),
            "task": Task("classification", ("top1",)),
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


def loaded(name, **given):
    scenario = Scenario(name, LOADGEN, **given)
    return replace(QUICK, restarts=6, seconds=0.05, scenario=scenario, queries=64, judged=False)


@pytest.mark.system
def test_a_scenario_is_named_and_its_variants_compared_under_it(bundle_of):
    pytest.importorskip("mlperf_loadgen", reason="LoadGen has no wheel here")
    bundle = bundle_of(("baseline", "ort", "slow"), ("fast", "ort", "float"))
    first, (fast,) = measure(bundle, CPU, SPLITS, loaded("single-stream"), transport=LocalTransport())
    assert first.scenario.driver.startswith("LoadGen 6")
    assert [len(first.samples_ms), len(first.samples_per_s)] == [6, 6]
    assert all(len(one) >= 64 for one in fast.samples_ms)
    assert fast.speedup.low > 2
    assert fast.accuracy == ()
    assert fast.energy.reason == "it is measured in single-stream by the built-in loop"

    _, (fast,) = measure(bundle, CPU, SPLITS, loaded("offline", batch=4), transport=LocalTransport())
    assert fast.samples_ms == ()
    assert fast.percentile_ms(50) is None
    assert fast.throughput > 100
    assert fast.speedup.low > 2

    server = replace(loaded("server", queries_per_s=500, deadline_ms=2), restarts=1)
    _, (fast,) = measure(bundle, CPU, SPLITS, server, transport=LocalTransport())
    assert 0 <= fast.late <= 1
    assert fast.speedup is None  # how long a query waits says little of how fast it is answered


def test_a_variant_is_measured_beside_its_baseline(bundle_of, tmp_path):
    bundle = bundle_of(("baseline", "ort", "float"), ("same", "ort", "float"), ("slow", "ort", "slow"))
    transport = Watched()
    baseline, (same, slow) = measure(bundle, CPU, SPLITS, SIX, transport=transport)

    assert everything_ended(transport)
    assert len(transport.started) == SIX.restarts * 3
    for one in (baseline, same, slow):
        assert len(one.samples_ms) == SIX.restarts
        assert all(SIX.rounds * SIX.least <= len(run) <= SIX.rounds * SIX.most for run in one.samples_ms)
        assert len(one.load_ms) == len(one.first_inference_ms) == SIX.restarts
        assert one.peak_memory_bytes is not None
        assert one.environment is not None
        assert one.unmeasured == ""
        assert not one.failed
        assert one.bundle == bundle.sha256
        assert one.size_bytes == bundle.size_bytes(bundle.variant(one.variant))
        assert (one.compile_ms, one.compile_cached, one.device_memory_bytes) == ((), (), None)
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
        assert (one.samples, one.accuracy, one.speedup, one.layers, one.failed) == (0, (), None, (), False)


def test_without_its_baseline_nothing_is_measured(bundle_of):
    bundle = bundle_of(("baseline", "ort", "broken"), ("same", "ort", "float"))
    transport = Watched()
    with pytest.raises(CorruptError):
        measure(bundle, CPU, SPLITS, QUICK, transport=transport)
    assert everything_ended(transport)


def doomed(command, end="os.kill(os.getpid(), 9)"):
    """A worker that ends in the middle of a command."""
    return f"""
import os, time
from edgeprune.worker import worker
def doomed(self, **fields):
    {end}
worker.COMMANDS[{command!r}] = doomed
worker.main()
"""


# the first restart starts workers 0 to 2, the second 3 to 5
@pytest.mark.parametrize(
    ("number", "command"),
    [(1, "prepare"), (1, "open"), (1, "time"), (1, "memory"), (1, "evidence"), (1, "predict"), (4, "time")],
)
def test_a_worker_that_dies_is_a_row_and_the_others_go_on(bundle_of, number, command):
    bundle = bundle_of(("baseline", "ort", "float"), ("doomed", "ort", "float"), ("same", "ort", "float"))
    transport = Watched({number: doomed(command)})
    baseline, (dead, same) = measure(bundle, CPU, SPLITS, QUICK, transport=transport)
    assert dead.unmeasured.startswith("doomed: the worker was killed by signal 9")
    assert dead.failed
    assert (dead.samples, dead.accuracy, dead.speedup, dead.layers, dead.load_ms) == (0, (), None, (), ())
    for one in (baseline, same):
        assert (one.unmeasured, one.failed, len(one.samples_ms)) == ("", False, QUICK.restarts)
        assert one.accuracy
    assert everything_ended(transport)


def test_a_worker_that_hangs_is_a_row_too(bundle_of):
    bundle = bundle_of(("baseline", "ort", "float"), ("doomed", "ort", "float"))
    transport = Watched({1: doomed("time", "time.sleep(600)")})
    baseline, (dead,) = measure(bundle, CPU, SPLITS, replace(QUICK, timeout_s=5), transport=transport)
    assert dead.unmeasured.startswith("doomed: the worker was killed because it gave no answer in 5 s")
    assert dead.failed
    assert baseline.samples
    assert everything_ended(transport)


@pytest.mark.parametrize("command", ["time", "predict"])
def test_the_death_of_the_baseline_is_raised(bundle_of, command):
    bundle = bundle_of(("baseline", "ort", "float"), ("same", "ort", "float"))
    transport = Watched({0: doomed(command)})
    with pytest.raises(DeviceError, match="baseline: the worker was killed by signal 9"):
        measure(bundle, CPU, SPLITS, QUICK, transport=transport)
    assert everything_ended(transport)


def test_a_death_while_a_device_is_simulated_is_a_row(bundle_of):
    bundle = bundle_of(("baseline", "ort", "float"), ("doomed", "ort", "float"))
    _, (dead,) = measure(bundle, PI, SPLITS, QUICK, transport=Watched({1: doomed("predict")}))
    assert dead.unmeasured.startswith("no device; accuracy not simulated: doomed: the worker was killed")
    assert (dead.failed, dead.accuracy) == (True, ())


def test_where_the_memory_mark_cannot_be_lowered_it_is_said(bundle_of):
    program = """
from edgeprune.worker import worker
opened = worker.Worker.open
worker.COMMANDS["open"] = lambda self, **fields: opened(self, **fields) | {"mark_lowered": False}
worker.main()
"""
    bundle = bundle_of(("baseline", "ort", "float"), ("same", "ort", "float"))
    transport = Watched({1: program})
    _, (same,) = measure(bundle, CPU, SPLITS, replace(QUICK, restarts=1), transport=transport)
    assert any("peak memory may include" in warning for warning in same.warnings)


def test_unless_told_otherwise_a_runtime_gets_the_threads_of_the_target(bundle_of):
    bundle = bundle_of(("baseline", "ort", "float"))
    two = CPU.model_copy(update={"threads": 2})
    for threads, given in ((None, 2), (1, 1)):
        settings = replace(QUICK, restarts=1, threads=threads)
        baseline, _ = measure(bundle, two, SPLITS, settings, transport=LocalTransport())
        assert baseline.environment is not None
        assert baseline.environment.threads == given


class Order(LocalTransport):
    """This machine, with workers that write down, in one file, in which order they are told to time."""

    def __init__(self, path):
        super().__init__()
        self.path, self.count = path, 0

    def start(self, argv):
        program = f"""
from edgeprune.worker import worker
time = worker.Worker.time
def noted(self, **fields):
    open({str(self.path)!r}, "a").write("{self.count} ")
    return time(self, **fields)
worker.COMMANDS["time"] = noted
worker.main()
"""
        self.count += 1
        return super().start([self.python, "-c", program])


def test_variants_take_turns_in_an_order_that_changes_and_comes_again(bundle_of, tmp_path):
    bundle = bundle_of(*((name, "ort", "float") for name in ("baseline", "a", "b")))

    def turns(name, seed):
        settings = replace(QUICK, restarts=1, rounds=10, seed=seed)
        measure(bundle, CPU, SPLITS, settings, transport=Order(tmp_path / name))
        noted = [int(text) for text in (tmp_path / name).read_text().split()]
        return [tuple(noted[i : i + 3]) for i in range(0, 30, 3)]

    first = turns("first", 0)
    assert all(sorted(turn) == [0, 1, 2] for turn in first)
    rotations = {(0, 1, 2), (1, 2, 0), (2, 0, 1)}
    assert set(first) - rotations
    assert turns("again", 0) == first
    assert turns("other", 1) != first


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
        assert one.accuracy[0].source == (
            "simulated (ONNX Runtime, graph optimization off, so that Q/DQ is computed in float)"
        )


@pytest.mark.parametrize(("target", "backend"), [(PI, "ort"), (NUC, "openvino"), (JETSON, "tensorrt")])
def test_every_runtime_is_simulated_as_the_file_says_with_qdq_in_float(bundle_of, target, backend):
    bundle = bundle_of(("baseline", "ort", "float"), ("int8", backend, "coarse"))
    _, (variant,) = measure(bundle, target, SPLITS, QUICK, transport=LocalTransport())
    path = bundle.files(bundle.variant("int8"))["model"]
    expected = onnx.reference.ReferenceEvaluator(str(path)).run(None, {"x": X})[0]
    right = int(np.sum(np.argmax(expected, axis=1) == LABELS))
    assert variant.accuracy[0].value == wilson(right, 60)
    assert "graph optimization off, so that Q/DQ is computed in float" in variant.accuracy[0].source
    assert (variant.backend, variant.unmeasured) == (backend, "no device")


def test_bfloat16_is_not_simulated_in_float32(bundle_of):
    bundle = bundle_of(("baseline", "ort", "float"), ("openvino-bf16", "openvino", "float"))
    _, (variant,) = measure(bundle, NUC, SPLITS, QUICK, transport=LocalTransport())
    assert variant.accuracy == ()
    assert variant.unmeasured.startswith("no device; accuracy not simulated: ONNX Runtime has no bfloat16")


def test_the_bundle_itself_is_left_as_it_was(bundle_of, tmp_path):
    bundle = bundle_of(("baseline", "ort", "float"))
    shutil.copytree(bundle.root, tmp_path / "copy")
    measure(bundle, PI, SPLITS, QUICK, transport=LocalTransport())

    def files(root: Path):
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert files(bundle.root) == files(tmp_path / "copy")


def test_a_processor_that_slowed_down_meanwhile_is_told():
    here = Environment("cpu", "x86_64", (), 2, 1, "Linux", "3.11", {}, clock_mhz=3000, throttled=4)
    assert list(_heat(here, here)) == []
    slowed = replace(here, clock_mhz=2000, throttled=7)
    throttled, clock = _heat(here, slowed)
    assert "slowed down for heat 3 times" in throttled
    assert "from 3000 to 2000 MHz" in clock
    assert here.fingerprint() == slowed.fingerprint() != replace(here, turbo=False).fingerprint()
