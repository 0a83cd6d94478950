import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from edgeprune.cli.main import main
from edgeprune.errors import (
    BudgetError,
    ConfigError,
    DivergedError,
    InputError,
    OutOfReachError,
    OutputError,
    UnknownNameError,
)
from edgeprune.graph.load import read_onnx
from edgeprune.graph.operators import operators
from edgeprune.latency_table import Entry, Key, LatencyTable, write_table
from edgeprune.pipeline import single
from edgeprune.pipeline.corrections import tell_of_idle
from edgeprune.pipeline.precision import SIMULATED
from edgeprune.progress import Silent
from edgeprune.recipe import Budgets, PrunePart, QuantizePart, TrainPart
from edgeprune.targets.load import load_target

SHORT = TrainPart(epochs=2, recover_epochs=1)
WHOLE = PrunePart(pruner="none")


class Heard(Silent):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def test_stage_after_stage_gives_what_compile_gives(job, tmp_path):
    weights, cut, graph, quantized = (tmp_path / name for name in ("w.safetensors", "cut", "g.onnx", "q.onnx"))
    trained = single.train(job(train=SHORT, prune=WHOLE), weights)
    assert {"conv1.weight", "fc2.bias"} <= set(load_file(weights)) or load_file(weights)
    assert 0.2 < trained.facts["scores"]["report"]["top1"].estimate <= 1
    pruned = single.prune(job(train=SHORT, weights=weights), cut)
    assert {path.name for path in pruned.files} == {"pruned.safetensors", "architecture.json", "pruning.json"}
    exported = single.export(job(train=SHORT, weights=weights, prune=WHOLE), graph, cut)
    dense = single.export(job(train=SHORT, weights=weights, prune=WHOLE), tmp_path / "dense.onnx")
    assert exported.facts["macs"] <= 0.5 * dense.facts["macs"] * 1.01
    assert exported.facts["parity"] <= 1e-4
    made = single.quantize(job(model=str(graph), prune=WHOLE), "ort", quantized)
    assert {layer["precision"] for layer in made.facts["layers"]} == {"int8"}
    assert quantized.stat().st_size < 0.5 * graph.stat().st_size
    session = onnxruntime.InferenceSession(str(quantized), providers=["CPUExecutionProvider"])
    (name,) = (node.name for node in session.get_inputs())
    assert session.run(None, {name: np.zeros((3, 1, 8, 8), np.float32)})[0].shape == (3, 10)
    lowered = single.lower(quantized, load_target("cpu"), "ort", "int8", tmp_path / "lowered")
    assert lowered.files[0].read_bytes() == quantized.read_bytes()


def test_a_pruned_network_may_see_images_as_they_are_where_the_dense_one_did_not(job, tmp_path):
    weights, found = tmp_path / "w.safetensors", {}
    single.train(job(train=SHORT, prune=WHOLE), weights)
    for augment, again in ((False, None), (True, None), (True, False), (False, True)):
        part = TrainPart(epochs=2, recover_epochs=1, augment=augment, recover_augment=again)
        single.prune(job(train=part, weights=weights), out := tmp_path / f"{augment}-{again}")
        found[augment, again] = (out / "pruned.safetensors").read_bytes()
    assert found[True, False] == found[False, None] != found[True, None] == found[False, True]


def test_a_file_for_a_board_comes_with_its_build_as_data(job, onnx_file, tmp_path):
    graph = onnx_file(
        "(float[n, 1, 8, 8] x) => (float[n, 10] y) <float[64, 10] w = {"
        + ", ".join(str(0.01 * (i % 7)) for i in range(640))
        + "}> { flat = Flatten(x) y = MatMul(flat, w) }"
    )
    single.quantize(job("jetson", model=str(graph), prune=WHOLE), "tensorrt", tmp_path / "q.onnx")
    made = single.lower(tmp_path / "q.onnx", load_target("jetson"), "tensorrt", "int8", tmp_path / "board")
    build = next(path for path in made.files if path.suffix == ".json")
    assert json.loads(build.read_bytes())


def test_weights_in_4_bits_are_lowered_and_are_unproven_where_nobody_tried(job, onnx_file, tmp_path):
    graph = onnx_file(
        "(float[n, 1, 8, 8] x) => (float[n, 10] y) <float[64, 10] w = {"
        + ", ".join(str(0.01 * (i % 7)) for i in range(640))
        + "}> { flat = Flatten(x) y = MatMul(flat, w) }"
    )
    narrow = QuantizePart(precision="int4")
    single.quantize(job("jetson", model=str(graph), prune=WHOLE, quantize=narrow), "tensorrt", tmp_path / "q.onnx")
    with pytest.raises(ConfigError, match="is quantized: it cannot be lowered to fp16"):
        single.lower(tmp_path / "q.onnx", load_target("jetson"), "tensorrt", "fp16", tmp_path / "board")
    words = ["lower", str(tmp_path / "q.onnx"), "--target", "jetson", "--backend", "tensorrt", "--precision", "int4"]
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "board")])
    assert done.exit_code == 0, done.stderr
    assert "unproven: INT4 weights need opset 21" in done.stdout


def test_for_openvino_its_own_format_can_be_had_which_opens_to_the_same(onnx_file, tmp_path):
    openvino = pytest.importorskip("edgeprune.backends.openvino.run")
    graph = onnx_file("(float[n, 4] x) => (float[n, 4] y) { [one] y = Softmax(x) }")
    made = single.lower(graph, load_target("cpu"), "openvino", "fp32", tmp_path / "ir", ir=True)
    assert [path.name for path in made.files] == ["model.xml", "model.bin"]
    x, found = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32), []
    for file in (graph, made.files[0]):
        with openvino.load({"model": file}, made.facts["options"], threads=1, batch=2) as runner:
            found.append(runner.infer({"x": x})["y"])
    np.testing.assert_array_equal(*found)
    with pytest.raises(ConfigError, match="--ir writes OpenVINO's own format, --backend is ort"):
        single.lower(graph, load_target("cpu"), "ort", "fp32", tmp_path / "out", ir=True)


def test_what_a_stage_is_made_from_is_not_written_over(job, onnx_file, tmp_path):
    weights, plan = tmp_path / "pruned.safetensors", tmp_path / "plan.yaml"
    for file in (weights, plan):
        file.write_bytes(b"of the user")
    graph = onnx_file("(float[n, 4] x) => (float[n, 4] y) { [one] y = Softmax(x) }")
    content = graph.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)
    given = job(model=str(graph), prune=WHOLE, quantize=QuantizePart(precision="mixed", plan=plan))
    for stage in (
        partial(single.export, job(weights=weights, prune=WHOLE), weights),
        partial(single.export, job(weights=weights, prune=WHOLE), tmp_path / "link" / weights.name),
        partial(single.prune, job(weights=weights), tmp_path),
        partial(single.quantize, given, "ort", graph),
        partial(single.quantize, given, "ort", plan),
    ):
        with pytest.raises(OutputError, match="is what is read, and would be lost: choose another --out"):
            stage()
    model = tmp_path / "model.onnx"
    model.write_bytes(content)
    with pytest.raises(OutputError, match=r"model\.onnx: is what is read"):
        single.lower(model, load_target("cpu"), "ort", "fp32", tmp_path)
    assert model.read_bytes() == graph.read_bytes() == content
    assert weights.read_bytes() == plan.read_bytes() == b"of the user"


def test_of_a_training_that_diverges_the_last_good_network_is_kept(job, tmp_path):
    wild = TrainPart(epochs=1, recover_epochs=3, optimizer="sgd", lr=1.0, recover_lr=1e9)
    with pytest.raises(DivergedError, match=r"epoch 1 of 3 .* is kept in (.*)") as stopped:
        single.prune(job(train=wild), tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    good = Path(str(stopped.value).rpartition("kept in ")[2])
    made = single.export(job(train=wild), tmp_path / "g.onnx", good)
    assert made.facts["parity"] <= 1e-3


def test_what_a_stage_cannot_take_is_refused_in_one_line(job, tmp_path):
    graph = job(model="some.onnx", prune=WHOLE)
    for stage in (single.train, single.prune, single.export):
        with pytest.raises(ConfigError, match="takes a torch module"):
            stage(graph, tmp_path / "out")
    with pytest.raises(ConfigError, match="quantize takes an ONNX file"):
        single.quantize(job(), "ort", tmp_path / "out")
    with pytest.raises(ConfigError, match="nothing to do with --pruner none"):
        single.prune(job(prune=WHOLE), tmp_path / "out")
    with pytest.raises(InputError, match=r"pruned\.safetensors: missing: give a folder that `edgeprune prune` wrote"):
        single.export(job(prune=WHOLE), tmp_path / "out", tmp_path)
    with pytest.raises(InputError, match="no such file"):
        single.lower(tmp_path / "none.onnx", load_target("cpu"), "ort", "fp32", tmp_path / "out")


@pytest.mark.parametrize("precision", ["int8", "mixed"])
def test_a_size_that_no_bits_reach_ends_with_the_smallest_file(job, onnx_file, tmp_path, precision):
    graph = onnx_file(
        "(float[n, 1, 8, 8] x) => (float[n, 10] y) <float[64, 10] w = {"
        + ", ".join(str(0.01 * (i % 7)) for i in range(640))
        + "}> { flat = Flatten(x) y = MatMul(flat, w) }"
    )
    asked = {"quantize": QuantizePart(precision=precision), "budgets": Budgets(max_size_mb=1e-4)}
    with pytest.raises(BudgetError, match=r"q\.onnx: is 0\.00\d MB, 0\.0001 allowed: the smallest that was found"):
        single.quantize(job(model=str(graph), prune=WHOLE, **asked), "ort", tmp_path / "q.onnx")
    assert read_onnx(tmp_path / "q.onnx")


@pytest.fixture
def swamped(job, onnx_file):
    """Digits read by the nearest mean image, from which integers leave nothing: beside the weight 1000 of a pixel that
    is never inked all others are rounded to 0.
    """
    one = job()
    (images,) = one.tensors("calibrate", 300).values()
    images, labels = images.reshape(len(images), -1).astype(np.float64), one.splits.labels("calibrate")[: len(images)]
    w = np.stack([images[labels == digit].mean(axis=0) for digit in range(10)], axis=1)
    b = -np.sum(w**2, axis=0) / 2
    blank = int(np.argmin(images.std(axis=0)))
    w[blank] += 1000
    b -= 1000 * images[0, blank]
    numbers = {name: ", ".join(f"{x:.9g}" for x in array.reshape(-1)) for name, array in (("w", w), ("b", b))}
    return onnx_file(
        f"(float[n, 1, 8, 8] x) => (float[n, 10] y) <float[64, 10] w = {{{numbers['w']}}}, float[10] b ="
        f" {{{numbers['b']}}}> {{ flat = Flatten(x) p = MatMul(flat, w) y = Add(p, b) }}"
    )


@pytest.mark.parametrize("precision", ["int8", "int4", "plan"])
def test_a_drop_beyond_what_is_allowed_is_told_of_the_file_that_was_written(job, swamped, tmp_path, precision):
    (tmp_path / "plan.yaml").write_text("layers: {'*': int8}")
    part = QuantizePart(precision=precision) if precision != "plan" else None
    part = part or QuantizePart(precision="mixed", plan=tmp_path / "plan.yaml")
    asked = job(model=str(swamped), prune=WHOLE, quantize=part, budgets=Budgets(max_drop=2))
    with pytest.raises(
        BudgetError, match=r"q\.onnx: loses \d\d\.\d\d points on the select split \(ort\), 2 allowed"
    ) as caught:
        single.quantize(asked, "ort", tmp_path / "q.onnx")
    assert "\n" not in str(caught.value)
    assert read_onnx(tmp_path / "q.onnx")
    unasked = single.quantize(job(model=str(swamped), prune=WHOLE, quantize=part), "ort", tmp_path / "again.onnx")
    assert "lost" not in unasked.facts
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "q.onnx").read_bytes()


@pytest.mark.parametrize(
    ("target", "backend", "source"),
    [("cpu", "ort", "ort"), ("cpu", "openvino", "openvino"), ("rpi5", "ort", SIMULATED)],
)
def test_mixed_is_searched_and_judged_in_the_runtime_that_it_is_for(job, swamped, tmp_path, target, backend, source):
    if backend == "openvino":
        pytest.importorskip("edgeprune.backends.openvino.run")
    mixed = {"model": str(swamped), "prune": WHOLE, "quantize": QuantizePart(precision="mixed")}
    single.quantize(job(target, **mixed), "ort", tmp_path / "first.onnx")
    made = single.quantize(job(target, **mixed), backend, tmp_path / "q.onnx")
    assert [layer["precision"] for layer in made.facts["layers"]] == ["fp32"]
    assert made.facts["lost"] == {"points": 0, "source": source}
    assert len(list((tmp_path / "cache").glob("plan/*/plan.yaml"))) == 1 + (backend != "ort")


def test_bias_correction_gives_the_mean_of_8_bits_back(job, swamped, tmp_path):
    """Every weight but one is rounded to 0 there, so without it the mean of each score is far off."""
    (images,) = job().tensors("calibrate", 512).values()
    off = {}
    for corrections in ((), ("bias",)):
        part = QuantizePart(precision="int8", corrections=corrections)
        out = tmp_path / f"{len(corrections)}.onnx"
        single.quantize(job(model=str(swamped), prune=WHOLE, quantize=part), "ort", out)
        scores = [
            onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, {"x": images})[0]
            for file in (swamped, out)
        ]
        off[corrections] = np.abs((scores[1] - scores[0]).mean(axis=0)).max()
    assert off["bias",] < 0.2 * off[()]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (QuantizePart(precision="int8", corrections=("rounding",)), "rounding: is of 4-bit weights"),
        (
            QuantizePart(precision="int4", corrections=("rounding", "bias")),
            "bias: is for layers that `rounding` leaves",
        ),
        (QuantizePart(precision="int4", epochs=1), "smoothing, rounding: left out of weights that are trained on"),
        (QuantizePart(precision="int8"), None),
        (QuantizePart(precision="mixed", corrections=("bias",)), None),
        (QuantizePart(precision="int8", corrections=(), epochs=1), None),
    ],
)
def test_a_correction_that_does_nothing_is_told(job, part, told):
    tell_of_idle(replace(job(quantize=part), progress=(heard := Heard())))
    assert len(heard.said) == (told is not None)
    assert all(told in line for line in heard.said)


def test_a_correction_that_finds_nothing_in_the_graph_is_told(job, swamped, tmp_path):
    part = QuantizePart(precision="int8", corrections=("smoothing", "equalization"))
    asked = replace(job(model=str(swamped), prune=WHOLE, quantize=part), progress=(heard := Heard()))
    single.quantize(asked, "ort", tmp_path / "q.onnx")
    told = [line for line in heard.said if line.startswith("corrections: ")]
    assert told == [f"corrections: {one}: has no effect on this graph" for one in ("equalization", "smoothing")]


def test_a_runtime_or_precision_the_target_has_not_is_refused(job, onnx_file, tmp_path):
    graph = onnx_file("(float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }")
    with pytest.raises(UnknownNameError, match="did you mean 'ort'"):
        single.lower(graph, load_target("cpu"), "orrt", "fp32", tmp_path / "out")
    with pytest.raises(ConfigError, match="does not execute bf16 in ort"):
        single.lower(graph, load_target("cpu"), "ort", "bf16", tmp_path / "out")


@pytest.mark.parametrize(
    ("backend", "told"),
    [("orrt", "did you mean 'ort'"), ("tensorrt", "backend of target cpu 'tensorrt': .*known: openvino, ort")],
)
def test_a_runtime_the_target_has_not_is_refused_before_anything_is_quantized(job, onnx_file, tmp_path, backend, told):
    graph = onnx_file("(float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }")
    with pytest.raises(UnknownNameError, match=told) as caught:
        single.quantize(job(model=str(graph), prune=WHOLE), backend, tmp_path / "q.onnx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "q.onnx").exists()
    assert not (tmp_path / "cache").exists()


def pruning(out):
    return json.loads((out / "pruning.json").read_bytes())


def test_a_network_is_pruned_by_taylor_while_the_dense_one_teaches_it_and_goes_on_where_it_stopped(job, tmp_path):
    part = PrunePart(pruner="taylor", keep=0.4, schedule="cubic", epochs=1, removals=4)
    taught = TrainPart(epochs=2, recover_epochs=2, distill=0.5)
    made = single.prune(job(train=taught, prune=part), tmp_path / "cut")
    found = pruning(tmp_path / "cut")
    assert [event["step"] for event in found["events"]] == [4, 8, 12, 16][: len(found["events"])]
    assert found["macs_after"] <= 0.4 * found["macs_before"]
    assert made.facts["scores"]["report"]["top1"].estimate > 0.3
    again = single.prune(job(train=taught, prune=part), tmp_path / "again")
    assert (tmp_path / "again" / "pruned.safetensors").read_bytes() == made.files[0].read_bytes()
    assert again.facts == made.facts


@pytest.mark.parametrize("removals", [10, 1000])
def test_all_is_gone_by_the_end_of_the_epochs_asked_for_however_few_their_steps_are(job, tmp_path, removals):
    """One epoch is 18 steps, into which neither fits: ten removals would take 20."""
    part = PrunePart(keep=0.3, align=1, schedule="linear", epochs=1, removals=removals)
    single.prune(job(train=TrainPart(epochs=1, recover_epochs=1), prune=part), tmp_path / "cut")
    found = pruning(tmp_path / "cut")
    assert found["cost_after"] <= 0.3 * found["cost_before"]
    assert found["events"][-1]["step"] == 18


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"keep": 0.001}, r"keep 0\.001 cannot be reached in multiples of 1 channels: 0\.003 of the"),
        ({"schedule": "cubic", "keep": 0.001}, "keep 0.001 cannot be reached"),
        (
            {"sparsity": 0.9999},
            r"sparsity 0\.9999 cannot be reached in multiples of 1 channels: 0\.99\d* can: remove less",
        ),
        ({"remove": "blocks"}, "cannot be reached by removing whole blocks: 1 of the multiply-accumulates can"),
        ({"fractions": {"conv9": 0.5}}, "unknown layer 'conv9': did you mean 'conv2'"),
        ({"fractions": {"dense2": 0.5}}, r"dense2: must stay whole \(it is the output\)"),
        ({"fractions": {"conv9": 0.5}, "cost": "latency"}, "unknown layer 'conv9'"),
        ({"fractions": {"*": 1.0}, "pruner": "taylor"}, "cannot be reached"),
    ],
)
def test_what_cannot_be_pruned_is_refused_before_anything_is_trained(job, tmp_path, how, message):
    asked = replace(job(train=SHORT, prune=PrunePart(**how)), progress=(heard := Heard()))
    with pytest.raises(ConfigError, match=message) as caught:
        single.prune(asked, tmp_path / "out")
    assert not list((tmp_path / "cache").glob("train/*"))
    narrower = isinstance(caught.value, OutOfReachError) and "blocks" not in str(caught.value)
    assert any("trying 8" in line for line in heard.said) == narrower  # nowhere else would that help


@pytest.mark.parametrize("how", [{"pruner": "taylor", "keep": 0.3}, {"pruner": "uniform", "sparsity": 0.6}])
def test_all_goes_at_once_by_gradients_or_to_a_fraction_of_the_weights(job, tmp_path, how):
    part = PrunePart(align=8, batches=5, **how)
    single.prune(job(train=TrainPart(epochs=1, recover_epochs=0), prune=part), tmp_path / "cut")
    found = pruning(tmp_path / "cut")
    assert found["method"] == how["pruner"]
    assert found["cost_after"] <= (0.4 if "sparsity" in how else 0.3) * found["cost_before"]
    assert len(found["events"]) == 1


def test_blocks_are_removed_and_the_network_is_exported(job, tmp_path):
    part = PrunePart(keep=0.7, remove="blocks", pruner="magnitude")
    less = job(model="resnet20", train=TrainPart(epochs=1, recover_epochs=0, batch=512), prune=part)
    single.prune(less, tmp_path / "cut")
    assert pruning(tmp_path / "cut")["blocks"]
    exported = single.export(less, tmp_path / "cut.onnx", tmp_path / "cut")
    assert exported.facts["macs"] == pruning(tmp_path / "cut")["macs_after"]


def test_a_latency_table_says_what_is_removed(job, tmp_path):
    """Of a machine on which every multiply-accumulate of the second convolution takes a hundred times as long."""
    part, trained = PrunePart(keep=0.6, cost="latency", align=8), TrainPart(epochs=1)
    timed = {"prune": part, "latency_table": tmp_path / "latency.csv"}
    single.export(job(train=trained, prune=WHOLE), tmp_path / "dense.onnx")
    entries = []
    for one in operators(read_onnx(tmp_path / "dense.onnx")):
        work = one.work("int8")
        ms = 1e-6 * work.macs * (100 if "64x4x4" in one.shapes else 1) + 1e-6 * work.bytes
        key = Key("ort", one.kind, one.shapes, "int8")
        entries.append(Entry(key, "made", ms, work, 10**5, "2026-01-01T00:00:00+00:00"))
    write_table(LatencyTable("cpu", "none", "0", tuple(entries)), timed["latency_table"])
    less = trained.model_copy(update={"recover_epochs": 0})
    single.prune(job(train=less, **timed), tmp_path / "cut")
    found = pruning(tmp_path / "cut")
    assert found["cost_after"] <= 0.6 * found["cost_before"]
    assert found["macs_after"] < found["macs_before"]
    unknown = job(model="resnet20", train=less.model_copy(update={"batch": 512}), **timed)
    with pytest.raises(ConfigError, match=r"latency_table: nothing is known there of GlobalAveragePool"):
        single.prune(unknown, tmp_path / "not")
