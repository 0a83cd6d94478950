from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgeprune.bundle import LayerPlan, Task, Variant, seal
from edgeprune.errors import CorruptError, InputError, MissingError, OutputError
from edgeprune.graph.load import read_onnx
from edgeprune.graph.operators import operators
from edgeprune.latency_table import Work, read_table, write_table
from edgeprune.pipeline.operators import OperatorSettings, keep_operators, shared_out, time_operators
from edgeprune.quantize.allocation.latency import predict
from edgeprune.quantize.emission.flavour import FLAVOURS
from edgeprune.quantize.plan import uniform_plan
from edgeprune.shipped import find
from edgeprune.tensor import TensorSpec

QUICK = OperatorSettings(restarts=2, seconds=0.1, warm_min_s=0, warm_max_s=0.2)
TEXT = """<ir_version: 8, opset_import: ["" : 20]> main (float[batch,8,32,free] x) => (float[batch,WIDTH,1,1] y) {
  [conv1] a = Conv<pads=[1,1,1,1]>(x, w1)
  [relu1] b = Relu(a)
  [conv2] c = Conv<pads=[1,1,1,1]>(b, w2)
  [relu2] d = Relu(c)
  [pool] y = GlobalAveragePool(d)
}"""
RNG = np.random.default_rng(0)


@pytest.fixture
def bundle_of(tmp_path):
    """A sealed bundle with variants in these runtimes: two convolutions, `width` wide, on four samples 32 x 32."""

    def made(*backends, width=16, target="cpu", name="bundle", broken=()):
        root = tmp_path / name
        layers = tuple(LayerPlan(f"conv{i}", "Conv", f"w{i}", "fp32") for i in (1, 2))
        variants = []
        for backend in backends:
            path = root / backend / "model.onnx"
            path.parent.mkdir(parents=True)
            proto = onnx.parser.parse_model(TEXT.replace("WIDTH", str(width)))
            for weight, shape in {"w1": (width, 8, 3, 3), "w2": (width, width, 3, 3)}.items():
                array = RNG.normal(0, 0.1, shape).astype(np.float32)
                proto.graph.initializer.append(onnx.numpy_helper.from_array(array, weight))
            onnx.save(proto, path)
            if backend in broken:
                path.write_bytes(b"not an ONNX file")
            options = {"INFERENCE_PRECISION_HINT": "f32"} if backend == "openvino" else {}
            files = {"model": f"{backend}/model.onnx"}
            variants.append(Variant(f"{backend}-fp32", backend, "fp32", files, options, layers))
        (root / "target.yaml").write_text(find("targets", target).read_text())
        np.savez(root / "samples.npz", x=RNG.normal(size=(4, 8, 32, 32)).astype(np.float32))
        core = {
            "model": "tiny",
            "target": target,
            "untrained": True,
            "seed": 0,
            "command": "none",
            "inputs": (TensorSpec("x", "float32", ("batch", 8, 32, "free")),),
            "outputs": (TensorSpec("y", "float32", ("batch", width, 1, 1)),),
            "task": Task("none", ()),
            "baseline": variants[0],
            "variants": tuple(variants),
            **{name: {} for name in ("splits", "budgets", "pruning", "assumptions", "versions", "recipe")},
        }
        return seal(root, core)

    return made


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_the_operators_of_a_network_take_what_it_takes_together(bundle_of, backend):
    pytest.importorskip({"ort": "onnxruntime"}.get(backend, backend))
    bundle = bundle_of(backend)
    table, (found,) = time_operators(bundle, settings=QUICK)
    assert [(one.key.operator, one.key.shapes, one.count) for one in found.operators] == [
        ("Conv 3x3 + Relu", "1x8x32x32 > 1x16x32x32", 1),
        ("Conv 3x3 + Relu", "1x16x32x32 > 1x16x32x32", 1),
        ("GlobalAveragePool", "1x16x32x32 > 1x16x1x1", 1),
    ]
    assert {(one.key.runtime, one.key.precision) for one in found.operators} == {(backend, "fp32")}
    assert sum(one.count * one.ms for one in found.operators) == pytest.approx(found.ms)
    narrow, wide, _ = found.operators
    assert wide.ms > narrow.ms  # twice the arithmetic
    assert wide.work == Work(32 * 32 * 16 * 16 * 9, 4 * (2 * 16 * 32 * 32 + 16 * 16 * 9), 16)
    assert found.foretold(table).ms == pytest.approx(found.ms)


def test_what_the_table_holds_foretells_the_model_from_its_graph_and_plan(bundle_of):
    bundle = bundle_of("ort")
    table, (found,) = time_operators(bundle, settings=QUICK)
    model = read_onnx(bundle.root / "ort" / "model.onnx")
    foretold = predict(model, uniform_plan(model, "fp32"), FLAVOURS["ort"], table, "ort")
    assert foretold.ms is not None
    assert foretold.unknown == ()
    assert found.ms is not None


def test_a_table_grows_by_bundles_and_a_bundle_measured_again_replaces_itself(bundle_of, tmp_path):
    small, large = bundle_of("ort", name="small"), bundle_of("ort", name="large", width=32)
    path, ((_, before),) = keep_operators(small, tmp_path / "out", settings=QUICK)
    assert path == tmp_path / "out" / "cpu" / "latency.csv"
    assert before is None
    once = read_table(path)
    _, ((found, before),) = keep_operators(large, tmp_path / "out", settings=QUICK)
    assert before is not None
    assert before.ms is not None
    assert before.interpolated == pytest.approx(1.0)
    assert found.ms is not None
    both = read_table(path)
    assert len(both.entries) == 2 * len(once.entries)
    _, ((_, again),) = keep_operators(small, tmp_path / "out", settings=QUICK)
    assert again is not None
    assert again.interpolated == 0
    assert len(read_table(path).entries) == len(both.entries)


def test_a_variant_that_cannot_run_here_says_why_and_the_others_go_on(bundle_of):
    _, (good, bad) = time_operators(bundle_of("ort", "openvino", broken=("openvino",)), settings=QUICK)
    assert good.ms is not None
    assert (bad.ms, bad.operators) == (None, ())
    assert "not an ONNX file" in bad.unmeasured


def test_a_bundle_of_which_nothing_can_run_here_is_refused(bundle_of, tmp_path):
    with pytest.raises(CorruptError, match="not an ONNX file"):
        keep_operators(bundle_of("ort", broken=("ort",)), tmp_path / "out", settings=QUICK)
    with pytest.raises(MissingError, match="is for jetson-orin-nano, which is not this machine"):
        keep_operators(bundle_of("ort", target="jetson-orin-nano", name="far"), tmp_path / "out", settings=QUICK)
    assert not (tmp_path / "out").exists()


def test_a_table_that_cannot_be_added_to_is_refused_before_anything_is_measured(bundle_of, tmp_path):
    bundle, out = bundle_of("ort"), tmp_path / "out"
    path, _ = keep_operators(bundle, out, settings=QUICK)
    never = replace(QUICK, timeout_s=0.0)  # whatever is measured with it fails
    write_table(replace(read_table(path), machine="Another", environment="0" * 16), path)
    with pytest.raises(InputError, match="cannot be in one table"):
        keep_operators(bundle, out, settings=never)
    rows = list(csv.reader(path.open(encoding="utf-8")))
    rows[-1][0] = "2"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(CorruptError, match="schema '2'"):
        keep_operators(bundle, out, settings=never)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another --out"):
        keep_operators(bundle, tmp_path / "file", settings=QUICK)


def test_what_measuring_adds_to_each_kernel_is_taken_off_it(bundle_of):
    graph = operators(read_onnx(bundle_of("ort").root / "ort" / "model.onnx"))
    true = {"conv1": 40.0, "conv2": 80.0, "pool": 5.0}
    nodes = [{"name": name, "op": "", "inputs": [], "us": us + 3.0} for name, us in true.items()]
    shared = shared_out("ort", {"nodes": nodes}, graph, 0.125)
    assert shared == pytest.approx({name: us / 1e3 for name, us in true.items()})
    assert sum(shared_out("ort", {"nodes": nodes}, graph, 0.010).values()) == pytest.approx(0.010)
    assert all(ms > 0 for ms in shared_out("ort", {"nodes": nodes}, graph, 0.010).values())
    assert shared_out("ort", {"nodes": []}, graph, 0.3) == pytest.approx(dict.fromkeys(true, 0.1))
