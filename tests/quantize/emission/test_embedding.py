import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.backends import LOAD
from edgeprune.errors import MissingError
from edgeprune.graph.save import write_onnx
from edgeprune.quantize.emission.flavour import FLAVOURS
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.spec import Range
from edgeprune.registry import resolve

RNG = np.random.default_rng(0)
TABLE = (RNG.normal(size=(500, 16)) * np.geomspace(0.01, 100, 500)[:, np.newaxis]).astype(
    np.float32
)  # rows of all sizes
LOOKUP = "(int64[batch, 5] ids) => (float[batch, 5, 16] y) { [embedding] y = Gather(table, ids) }"
OPTIONS = {"ort": {}, "openvino": {"INFERENCE_PRECISION_HINT": "f32"}}


def looked_up(model, ids, runtime, folder):
    write_onnx(model, folder / "m.onnx")
    try:
        load = resolve(LOAD, runtime, "backend")
    except MissingError as error:
        pytest.skip(str(error))
    with load({"model": folder / "m.onnx"}, OPTIONS[runtime], threads=1, batch=len(ids)) as runner:
        return runner.infer({"ids": ids})["y"]


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_every_number_is_right_to_half_a_step_of_its_row(parse, runtime, tmp_path):
    model = parse(LOOKUP, table=TABLE)
    ids = RNG.integers(0, 500, (8, 5))
    found = looked_up(emit(model, uniform_plan(model, "int8"), {}, FLAVOURS[runtime]), ids, runtime, tmp_path)
    half_a_step = np.abs(TABLE[ids]).max(axis=-1, keepdims=True) / 127 / 2
    assert (np.abs(found - TABLE[ids]) <= half_a_step * 1.001).all()


@pytest.mark.parametrize("flavour", ["ort", "openvino"])
def test_the_table_takes_a_quarter_of_the_file(parse, flavour):
    model = parse(LOOKUP, table=TABLE)
    small = emit(model, uniform_plan(model, "int8"), {}, FLAVOURS[flavour])
    onnx.checker.check_model(ir.to_proto(small), full_check=True)
    assert small.graph.initializers["table"].dtype == ir.DataType.INT8
    assert len(ir.to_proto(small).SerializeToString()) < TABLE.nbytes / 3
    assert "embedding" in {node.name for node in small.graph}


def test_tensorrt_keeps_the_table_in_float(parse):
    model = parse(LOOKUP, table=TABLE)
    assert ir.to_proto(emit(model, uniform_plan(model, "int8"), {}, FLAVOURS["tensorrt"])) == ir.to_proto(model)


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_a_table_that_is_also_multiplied_by_serves_both(parse, runtime, tmp_path):
    """As where the words that go in and those that come out share their vectors; sums of rows must not overflow."""
    text = """(int64[batch, 5] ids) => (float[batch, 500] y) {
        e = Gather(table, ids)  m = ReduceSum<keepdims = 0>(e, one)  y = Gemm<transB = 1>(m, table)
    }"""
    table = RNG.normal(size=(500, 16)).astype(np.float32)
    model = parse(text, table=table, one=np.array([1]))
    ids = RNG.integers(0, 500, (8, 5))
    sums = table[ids].sum(axis=1)
    ranges = {"m": Range(float(sums.min()), float(sums.max()))}
    integer = emit(model, uniform_plan(model, "int8"), ranges, FLAVOURS[runtime])
    found = looked_up(integer, ids, runtime, tmp_path)
    expected = sums @ table.T
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
