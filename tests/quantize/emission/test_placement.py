import numpy as np
import pytest

from edgeprune.graph.layers import weighted_layers
from edgeprune.quantize.emission.placement import Placement, place

HEAD = "(float[N, 4, 8, 8] x) => (float[N, C, H, W] y)"
WEIGHTS = {name: np.ones((4, 4, 1, 1), np.float32) for name in ("u", "v", "w")}


@pytest.fixture
def placed(parse):
    def placed(nodes: str, *, floats: str = "", add_absorbs: bool = False, **more: np.ndarray) -> Placement:
        used = {name: array for name, array in WEIGHTS.items() if f" {name})" in nodes}
        model = parse(f"{HEAD} {{ {nodes} }}", **used, **more)
        weights = {layer.weight for layer in weighted_layers(model)} - set(floats)
        return place(model, weights, add_absorbs=add_absorbs)

    return placed


def test_integers_go_in_and_come_out_of_a_convolution_behind_its_activation(placed):
    assert placed("a = Conv(x, w)  y = Relu(a)").own == ("x", "y")
    assert placed("a = Conv(x, w)  y = Clip(a, low, high)", low=np.float32(0), high=np.float32(6)).own == ("x", "y")
    assert placed("a = Conv(x, w)  y = Sigmoid(a)").own == ("x", "a")


def test_an_activation_that_is_not_the_only_reader_is_computed_apart(placed):
    found = placed("a = Conv(x, v)  b = Relu(a)  c = Conv(b, w)  y = Sub(a, c)")
    assert found.own == ("x", "a", "b", "c")


def test_what_only_moves_values_shares_their_scale(placed):
    nodes = """a = Conv(x, v)  b = Relu(a)  c = MaxPool<kernel_shape = [2, 2]>(b)
               d = Transpose<perm = [0, 1, 3, 2]>(c)  y = Conv(d, w)"""
    found = placed(nodes)
    assert found.own == ("x", "b", "y")
    assert found.shared == {"c": "b", "d": "b"}


def test_padding_with_zero_moves_and_with_anything_else_does_not(placed):
    nodes = "a = Conv(x, v)  b = Pad(a, pads, fill)  y = Conv(b, w)"
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    assert placed(nodes, pads=pads, fill=np.float32(0)).shared == {"b": "a"}
    assert placed(nodes, pads=pads, fill=np.float32(1)).own == ("x", "a", "b", "y")


def test_a_residual_sum_between_convolutions_runs_in_integers(placed):
    nodes = "a = Conv(x, u)  r = Relu(a)  b = Conv(r, v)  s = Add(b, r)  t = Relu(s)  y = Conv(t, w)"
    assert placed(nodes).own == ("x", "r", "b", "t", "y")


def test_a_sum_that_runs_inside_the_convolution_sees_its_result_unrounded(placed):
    nodes = "a = Conv(x, u)  r = Relu(a)  b = Conv(r, v)  s = Add(b, r)  t = Relu(s)  y = Conv(t, w)"
    assert placed(nodes, add_absorbs=True).own == ("x", "r", "t", "y")


def test_of_two_convolutions_only_one_absorbs_the_sum(placed):
    nodes = "b = Conv(x, u)  c = Conv(x, v)  s = Add(b, c)  y = Conv(s, w)"
    assert placed(nodes, add_absorbs=True).own == ("x", "b", "s", "y")


def test_integers_do_not_spread_to_where_no_layer_reads_them(placed):
    assert placed("a = Conv(x, w)  b = GlobalAveragePool(a)  y = Exp(b)").own == ("x", "a")


def test_arithmetic_with_a_constant_or_with_float_values_stays_in_float(placed):
    assert placed("a = Conv(x, v)  b = Add(a, one)  y = Conv(b, w)", one=np.ones(1, np.float32)).own == (
        "x",
        "a",
        "b",
        "y",
    )
    nodes = "a = Conv(x, v)  e = Exp(x)  s = Add(a, e)  y = Conv(s, w)"
    assert placed(nodes).own == ("x", "a", "s", "y")


def test_a_float_layer_between_integer_layers_reads_and_gives_float(placed):
    nodes = "a = Conv(x, u)  r = Relu(a)  b = Conv(r, v)  s = Relu(b)  y = Conv(s, w)"
    assert placed(nodes, floats="v").own == ("x", "r", "s", "y")
    assert placed(nodes, floats="uvw").own == ()


def test_all_branches_of_a_concatenation_run_in_integers(placed):
    nodes = "a = Conv(x, u)  b = Conv(x, v)  c = Concat<axis = 2>(a, b)  y = Conv(c, w)"
    assert placed(nodes).own == ("x", "a", "b", "c", "y")


ATTENTION = """q = MatMul(x, w)  qb = Add(q, b)  k = MatMul(x, u)  kt = Transpose<perm = [0, 1, 3, 2]>(k)
  v = MatMul(x, v0)  s = MatMul(qb, kt)  m = Add(s, mask)  p = Softmax(m)  o = MatMul(p, v)  z = MatMul(o, z0)
  y = Relu(z)"""


@pytest.fixture
def attention(parse):
    model = parse(
        f"(float[N, 4, 8, 8] x, float[N, 1, 8, 8] mask) => (float[N, C, H, W] y) {{ {ATTENTION} }}",
        **{name: np.ones((8, 8), np.float32) for name in ("w", "u", "v0", "z0")},
        b=np.ones(8, np.float32),
    )
    return lambda floats="": place(model, {"w", "u", "v0", "z0"} - set(floats.split()), add_absorbs=False)


def test_products_of_activations_run_in_integers_where_their_factors_do(attention):
    found = attention()
    assert set(found.own) == {"x", "qb", "k", "p", "v", "o"}
    assert found.shared == {"kt": "k"}
    assert (found.left, found.right) == ({"qb", "p"}, {"k", "v"})


def test_nothing_that_holds_the_mask_is_quantized(attention):
    found = attention()
    assert not {"s", "m", "mask"} & {*found.own, *found.shared}


def test_a_product_with_a_factor_from_a_float_layer_stays_float(attention):
    assert attention("u").right == {"v"}
    assert attention("v0").right == {"k"}


def test_a_bias_belongs_to_the_product_before_it(attention):
    assert "q" not in attention().own


def test_a_view_is_crossed_towards_the_layers_that_read_it(placed):
    nodes = "e = Exp(x)  f = Reshape(e, shape)  y = Conv(f, w)"
    found = placed(nodes, shape=np.array([-1, 4, 8, 8]))
    assert found.own == ("e", "y")
    assert found.shared == {"f": "e"}


def test_a_view_that_is_also_read_in_float_is_not_crossed(placed):
    nodes = "e = Exp(x)  f = Reshape(e, shape)  a = Conv(f, w)  b = Exp(f)  y = Sub(a, b)"
    assert placed(nodes, shape=np.array([-1, 4, 8, 8])).own == ("f", "a")
