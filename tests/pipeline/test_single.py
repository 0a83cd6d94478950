import json

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file

from edgeprune.errors import ConfigError, InputError, UnknownNameError
from edgeprune.pipeline import single
from edgeprune.recipe import PrunePart, TrainPart
from edgeprune.targets.load import load_target

SHORT = TrainPart(epochs=2, recover_epochs=1)
WHOLE = PrunePart(pruner="none")


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


def test_a_runtime_or_precision_the_target_has_not_is_refused(job, onnx_file, tmp_path):
    graph = onnx_file("(float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }")
    with pytest.raises(UnknownNameError, match="did you mean 'ort'"):
        single.lower(graph, load_target("cpu"), "orrt", "fp32", tmp_path / "out")
    with pytest.raises(ConfigError, match="does not execute bf16 in ort"):
        single.lower(graph, load_target("cpu"), "ort", "bf16", tmp_path / "out")
