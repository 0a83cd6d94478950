from __future__ import annotations

import numpy as np

from edgeprune.graph.cost import macs
from edgeprune.graph.operators import operators, parts

RESIDUAL = """(float[batch,8,6,6] x) => (float[batch,10] y) {
  [conv1] a = Conv<pads=[1,1,1,1]>(x, w)
  [relu1] b = Relu(a)
  [conv2] c = Conv<pads=[1,1,1,1], strides=[2,2]>(b, w)
  [short] s = Slice(b, starts, ends, axes, steps)
  [add] d = Add(c, s)
  [relu2] e = Relu(d)
  [depth] g = Conv<group=8>(e, k)
  [pool] p = GlobalAveragePool(g)
  [flat] f = Flatten(p)
  [fc] z = MatMul(f, v)
  [bias] y = Add(z, n)
}"""
QUANTIZED = """(float[batch,8,6,6] x) => (float[batch,10] y) {
  [q] xq = QuantizeLinear(x, one, zero)
  [d] xd = DequantizeLinear(xq, one, zero)
  [wd] wd = DequantizeLinear(wq, one, zero)
  [conv1] a = Conv<pads=[1,1,1,1]>(xd, wd)
  [relu1] b = Relu(a)
  [q1] bq = QuantizeLinear(b, one, zero)
  [d1] bd = DequantizeLinear(bq, one, zero)
  [conv2] c = Conv<pads=[1,1,1,1], strides=[2,2]>(bd, wd)
  [short] s = Slice(bd, starts, ends, axes, steps)
  [add] d2 = Add(c, s)
  [relu2] e = Relu(d2)
  [depth] g = Conv<group=8>(e, k)
  [pool] p = GlobalAveragePool(g)
  [flat] f = Flatten(p)
  [fc] z = MatMul(f, v)
  [bias] y = Add(z, n)
}"""
WEIGHTS = {
    "w": np.ones((8, 8, 3, 3), np.float32),
    "k": np.ones((8, 1, 3, 3), np.float32),
    "v": np.ones((8, 10), np.float32),
    "n": np.ones(10, np.float32),
    "starts": np.array([0, 0]),
    "ends": np.array([6, 6]),
    "axes": np.array([2, 3]),
    "steps": np.array([2, 2]),
}
INTEGERS = {"wq": np.ones((8, 8, 3, 3), np.int8), "one": np.float32(1), "zero": np.int8(0)}


def test_an_operator_has_with_it_what_stands_behind_it(parse):
    found = operators(parse(RESIDUAL, **WEIGHTS))
    assert [(one.name, one.kind, one.shapes) for one in found] == [
        ("conv1", "Conv 3x3 + Relu + Slice", "1x8x6x6 > 1x8x6x6"),
        ("conv2", "Conv 3x3/2 + Add + Relu", "1x8x6x6 > 1x8x3x3"),
        ("depth", "Conv 3x3 depthwise", "1x8x3x3 > 1x8x1x1"),
        ("pool", "GlobalAveragePool", "1x8x1x1 > 1x8x1x1"),
        ("fc", "MatMul + Add", "1x8 > 1x10"),
    ]
    assert [one.before for one in found] == ["", "conv1", "conv2", "depth", "pool"]


def test_a_quantized_graph_has_the_operators_of_the_float_one(parse):
    real = operators(parse(RESIDUAL, **WEIGHTS))
    weights = {name: array for name, array in WEIGHTS.items() if name != "w"}
    quantized = operators(parse(QUANTIZED, **weights, **INTEGERS))
    for a, b in zip(real, quantized, strict=True):
        assert (a.name, a.kind, a.shapes, a.before) == (b.name, b.kind, b.shapes, b.before)
        assert [a.work(one) for one in ("fp32", "int8")] == [b.work(one) for one in ("fp32", "int8")]


def test_every_node_that_computes_is_part_of_one_operator(parse):
    graph = parse(QUANTIZED, **{k: v for k, v in WEIGHTS.items() if k != "w"}, **INTEGERS)
    of = parts(operators(graph))
    assert {str(node.name) for node in graph.graph} - of.keys() == {"wd"}  # folded when the file is opened
    assert (of["q"], of["relu1"], of["bq"], of["e"]) == ("conv1", "conv1", "conv1", "conv2")


def test_the_operators_do_all_of_the_work(parse):
    graph = parse(RESIDUAL, **WEIGHTS)
    found = operators(graph)
    assert sum(one.macs for one in found) == macs(graph)
    # input and output of conv1, and its 576 weights
    assert found[0].work("fp32").bytes == 4 * (2 * 8 * 36 + 576)
    assert found[0].work("int8").bytes == found[0].work("fp32").bytes // 4
    assert found[0].work("int8").channels == 8


def test_a_graph_that_only_moves_numbers_has_an_operator_all_the_same(parse):
    (one,) = operators(parse("(float[batch,4] x) => (float[batch,4] y) { [relu] y = Relu(x) }"))
    assert (one.name, one.kind, one.macs) == ("relu", "Relu", 0)


def test_a_table_that_is_looked_up_is_an_operator_and_a_choice_of_tokens_is_not(parse):
    text = """(int64[batch,5] ids) => (float[batch,3] y) {
      [table] e = Gather(rows, ids)
      [fc] z = MatMul(e, v)
      [first] y = Gather<axis=1>(z, zero)
    }"""
    weights = {"rows": np.ones((9, 4), np.float32), "v": np.ones((4, 3), np.float32), "zero": np.array(0)}
    found = operators(parse(text, **weights))
    assert [(one.kind, one.shapes) for one in found] == [
        ("Gather", "1x5 > 1x5x4"),
        ("MatMul + Gather", "1x5x4 > 1x5x3"),
    ]
