"""What the corrections of a recipe are worth in the file that each runtime gets."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeprune.backends import LOAD
from edgeprune.interleaved.predict import FLOAT_QDQ
from edgeprune.pipeline import artifact, single
from edgeprune.pipeline.lowered import lower_quantized
from edgeprune.pipeline.precision import decide
from edgeprune.recipe import PrunePart, QuantizePart
from edgeprune.registry import resolve
from edgeprune.targets.load import load_target

WHOLE = PrunePart(pruner="none")


@pytest.fixture
def dense(tmp_path):
    """Three dense layers on the digits, wide enough for blocks."""
    random, sizes = np.random.default_rng(0), (64, 128, 128, 10)
    nodes, numbers, x = [helper.make_node("Flatten", ["x"], ["h0"], name="flat")], {}, "h0"
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        w, b, y = f"w{number}", f"b{number}", f"y{number}"
        numbers |= {w: random.normal(size=(outputs, inputs)) / np.sqrt(inputs), b: np.zeros(outputs)}
        nodes.append(helper.make_node("Gemm", [x, w, b], [y], name=f"dense{number}", transB=1))
        x = f"r{number}"
        nodes.append(helper.make_node("Relu", [y], [x], name=f"relu{number}"))
    given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 1, 8, 8])
    answer = helper.make_tensor_value_info("y2", onnx.TensorProto.FLOAT, ["n", 10])
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in numbers.items()]
    graph = helper.make_graph(nodes[:-1], "dense", [given], [answer], weights)
    file = tmp_path / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def answers(file, x: np.ndarray) -> np.ndarray:
    with resolve(LOAD, "ort", "backend")({"model": file}, FLOAT_QDQ, threads=1, batch=len(x)) as runner:
        return next(iter(runner.infer({"x": x}).values()))


def int4(*corrections: str) -> QuantizePart:
    return QuantizePart(precision="int4", corrections=corrections)


def test_in_blocks_each_correction_is_worth_what_it_is_elsewhere(job, dense, tmp_path):
    """Bias correction lets the mean stay, rounding the answers: of other samples than were looked at too."""
    (x,) = job().tensors("report", 256).values()
    exact, moved, lost = answers(dense, x), {}, {}
    for corrections in ((), ("bias",), ("rounding",)):
        file = tmp_path / "q.onnx"
        single.quantize(job("jetson", model=str(dense), prune=WHOLE, quantize=int4(*corrections)), "tensorrt", file)
        assert {one.data_type for one in onnx.load(file).graph.initializer if one.name.startswith("w")} >= {
            onnx.TensorProto.INT4
        }
        wrong = answers(file, x) - exact
        moved[corrections], lost[corrections] = np.abs(wrong.mean(axis=0)).mean(), np.sqrt((wrong**2).mean())
    assert moved["bias",] < 0.3 * moved[()]
    assert lost["bias",] < 0.9 * lost[()]
    assert lost["rounding",] < 0.5 * lost[()]


def test_each_runtime_of_a_target_gets_weights_rounded_in_its_own_steps(job, dense, tmp_path):
    both = load_target("cpu").backends | load_target("jetson").backends
    found = {}
    for corrections in ((), ("rounding",)):
        asked = job(model=str(dense), prune=WHOLE, quantize=int4(*corrections))
        asked = replace(asked, target=asked.target.model_copy(update={"backends": both}))
        exported = artifact.adopt(asked, dense)
        decided = decide(asked, exported, exported, None, None)
        (x,) = asked.tensors("report", 256).values()
        for backend in ("ort", "tensorrt"):
            stage = lower_quantized(asked, decided, backend, "int4")
            wrong = answers(next(stage.folder.glob("*.onnx")), x) - answers(dense, x)
            found[backend, corrections] = np.sqrt((wrong**2).mean())
    for backend in ("ort", "tensorrt"):
        assert found[backend, ("rounding",)] < 0.5 * found[backend, ()]
    assert found["tensorrt", ("rounding",)] < found["ort", ("rounding",)]  # its steps are finer
