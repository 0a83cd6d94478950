from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.graph.fusion import (
    LayerOnLastDimension,
    LookupInTurn,
    NoGuardAgainstNothing,
    OneTranspose,
    ScaleBehindProduct,
    SumBeforeNormalization,
)

RNG = np.random.default_rng(0)
TWISTED = """(float[N, 6, 2, 5] x) => (float[N, 2, 5, 6] y) {
  a = Transpose<perm = [0, 2, 1, 3]>(x)  b = Reshape(a, flat)  c = Transpose<perm = [0, 2, 1]>(b)  y = Reshape(c, whole)
}"""
SCALED = """(float[N, 2, 6, 5] q, float[N, 2, 5, 6] k) => (float[N, 2, 6, 6] y) {
  a = Mul(q, c)  b = Mul(d, k)  y = MatMul(a, b)
}"""
GUARDED = """(float[N, 4] x, bool[N, 4] keep) => (float[N, 4] y) {
  mask = Where(keep, zero, low)  s = Add(x, mask)  p = Softmax(s)  n = IsNaN(p)  g = Where(n, zero, p)  y = Relu(g)
}"""
FLATTENED = """(float[N, 3, 4] x) => (float[N, 3, 5] y) {
  flat = Reshape(x, two)  [layer] g = Gemm(flat, w, b)  h = Reshape(g, three)  y = Relu(h)
}"""
OTHER_DIMENSIONS = """(float[N, 3, 2, 2] x) => (float[N, 3, 5] y) {
  flat = Reshape(x, two)  [layer] g = Gemm(flat, w, b)  h = Reshape(g, three)  y = Relu(h)
}"""
LAYER = {
    "w": RNG.normal(size=(4, 5)).astype(np.float32),
    "b": RNG.normal(size=5).astype(np.float32),
    "two": np.array([-1, 4]),
    "three": np.array([-1, 3, 5]),
}


def operators(model: ir.Model) -> Counter:
    return Counter(node.op_type for node in model.graph)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def rewritten(parse, evaluate):
    """The operators of a graph behind a pass, which must compute what it computed, and keep its outputs' names."""

    def rewritten(rewrite, text, feeds, **weights) -> Counter:
        model = parse(text, opset=20, **weights)
        expected = evaluate(model, **feeds)
        found = rewrite()(model).model
        assert [value.name for value in found.graph.outputs] == ["y"]
        np.testing.assert_allclose(evaluate(found, **feeds), expected, rtol=1e-5, atol=1e-6)
        return operators(found)

    return rewritten


def test_transpositions_around_a_flattening_become_one(rewritten):
    weights = {"flat": np.array([-1, 6, 5]), "whole": np.array([-1, 2, 5, 6])}
    assert rewritten(OneTranspose, TWISTED, {"x": normal(3, 6, 2, 5)}, **weights) == {"Transpose": 1}


def test_a_flattening_of_other_dimensions_stays(rewritten):
    weights = {"flat": np.array([-1, 12, 5]), "whole": np.array([-1, 2, 5, 6])}
    assert rewritten(OneTranspose, TWISTED, {"x": normal(3, 6, 2, 5)}, **weights) == {"Transpose": 2, "Reshape": 2}


def test_both_factors_scales_go_behind_their_product(rewritten):
    feeds = {"q": normal(3, 2, 6, 5), "k": normal(3, 2, 5, 6)}
    assert rewritten(ScaleBehindProduct, SCALED, feeds, c=np.float32(0.5), d=np.float32(3)) == {"MatMul": 1, "Mul": 1}


def test_a_scale_for_each_column_stays_where_it_is(rewritten):
    feeds = {"q": normal(3, 2, 6, 5), "k": normal(3, 2, 5, 6)}
    left = rewritten(ScaleBehindProduct, SCALED, feeds, c=normal(5), d=np.float32(3))
    assert left == {"MatMul": 1, "Mul": 2}


def test_a_guard_behind_a_finite_mask_goes(rewritten):
    feeds = {"x": normal(2, 4), "keep": np.array([[True, False, True, True], [False] * 4])}
    weights = {"zero": np.float32(0), "low": np.finfo(np.float32).min}
    assert rewritten(NoGuardAgainstNothing, GUARDED, feeds, **weights)["Where"] == 2  # dead ends are cleaned elsewhere


def test_a_guard_behind_minus_infinity_stays(parse, evaluate):
    model = parse(GUARDED, opset=20, zero=np.float32(0), low=np.float32(-np.inf))
    assert not NoGuardAgainstNothing()(model).modified
    assert evaluate(model, x=normal(1, 4), keep=np.zeros((1, 4), bool)).tolist() == [[0, 0, 0, 0]]


def test_a_flattened_layer_is_computed_on_its_last_dimension(rewritten):
    assert rewritten(LayerOnLastDimension, FLATTENED, {"x": normal(2, 3, 4)}, **LAYER) == {
        "MatMul": 1,
        "Add": 1,
        "Relu": 1,
    }


def test_what_was_flattened_from_other_dimensions_is_reshaped_before(rewritten):
    found = rewritten(LayerOnLastDimension, OTHER_DIMENSIONS, {"x": normal(2, 3, 2, 2)}, **LAYER)
    assert found == {"Reshape": 1, "MatMul": 1, "Add": 1, "Relu": 1}


def test_a_layer_keeps_its_name_and_its_result_keeps_its_own(parse):
    model = LayerOnLastDimension()(parse(OTHER_DIMENSIONS, opset=20, **LAYER)).model
    assert {"layer", "layer/bias"} <= {node.name for node in model.graph}
    assert "g" in ir.convenience.create_value_mapping(model.graph)


def test_a_layer_on_two_dimensions_stays(rewritten):
    text = FLATTENED.replace("float[N, 3, 4] x", "float[N, 4] x").replace("float[N, 3, 5] y", "float[N, 5] y")
    weights = LAYER | {"three": np.array([-1, 5])}
    assert rewritten(LayerOnLastDimension, text, {"x": normal(6, 4)}, **weights)["Gemm"] == 1


def test_a_sum_is_told_so_before_a_normalization_only(rewritten):
    text = """(float[N, 3, 4] x) => (float[N, 3, 4] y) {
        a = Add(x, x)  n = LayerNormalization(a, scale)  y = Add(n, x)
    }"""
    found = rewritten(SumBeforeNormalization, text, {"x": normal(2, 3, 4)}, scale=normal(4))
    assert found == {"Sum": 1, "LayerNormalization": 1, "Add": 1}


@pytest.mark.parametrize("reader", ["Relu(t)", "Add(t, t)"])
def test_the_numbers_of_rows_are_turned_and_not_the_rows(rewritten, reader):
    text = f"""(int64[N, 5] ids) => (float[5, N, 4] y) {{
        rows = Gather(table, ids)  t = Transpose<perm = [1, 0, 2]>(rows)  y = {reader}
    }}"""
    found = rewritten(LookupInTurn, text, {"ids": RNG.integers(0, 9, (3, 5))}, table=normal(9, 4))
    assert found == {"Transpose": 1, "Gather": 1, reader.partition("(")[0]: 1}


def test_rows_that_are_also_read_as_they_are_stay(parse):
    text = """(int64[N, 5] ids) => (float[N, 5, 4] y, float[5, N, 4] z) {
        rows = Gather(table, ids)  y = Relu(rows)  t = Transpose<perm = [1, 0, 2]>(rows)  z = Relu(t)
    }"""
    assert not LookupInTurn()(parse(text, table=normal(9, 4))).modified
