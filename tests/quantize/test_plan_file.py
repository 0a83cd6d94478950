import numpy as np
import pytest

from edgeprune.errors import ConfigError, EdgePruneError
from edgeprune.quantize.plan_file import read_plan, write_plan
from edgeprune.quantize.spec import LayerQuant, QuantPlan

GRAPH = """(float[N, 3, 8, 8] x) => (float[N, 2] y) {
  a = Conv<pads = [1, 1, 1, 1]>(x, first)  r = Relu(a)  b = Conv<pads = [1, 1, 1, 1]>(r, second)
  g = GlobalAveragePool(b)  f = Flatten(g)  y = MatMul(f, dense)
}"""


@pytest.fixture
def model(parse):
    shapes = {"first": (4, 3, 3, 3), "second": (4, 4, 3, 3), "dense": (4, 2)}
    return parse(GRAPH, **{name: np.ones(shape, np.float32) for name, shape in shapes.items()})


def test_what_was_written_is_read_back(model, tmp_path):
    layers = {"first": LayerQuant("fp32", "sees: the image"), "second": LayerQuant("int4", "so", (0, 2))}
    plan = QuantPlan(layers | {"dense": LayerQuant("int8", "why not")})
    write_plan(plan, tmp_path / "plan.yaml")
    assert read_plan(tmp_path / "plan.yaml", model) == plan


def test_a_name_with_brackets_stands_for_itself_and_is_read_back(parse, tmp_path):
    body = "(float[N, 2] x) => (float[N, 2] y) { a = MatMul(x, first)  b = MatMul(a, second)  y = MatMul(b, third) }"
    model = parse(body, **{name: np.ones((2, 2), np.float32) for name in ("first", "second", "third")})
    for old, new in (("first", "fc[0].weight"), ("second", "fc0.weight"), ("third", "fc[*].weight")):
        value = model.graph.initializers.pop(old)
        value.name = new
        model.graph.initializers.add(value)
    names = ("fc[0].weight", "fc0.weight", "fc[*].weight")
    plan = QuantPlan({name: LayerQuant(bits, "so") for name, bits in zip(names, ("int4", "int8", "fp32"), strict=True)})
    write_plan(plan, tmp_path / "plan.yaml")
    assert read_plan(tmp_path / "plan.yaml", model) == plan
    (tmp_path / "mine.yaml").write_text("layers: {'*': int8, 'fc[[]?].*': int4}")
    found = read_plan(tmp_path / "mine.yaml", model).layers
    assert [found[name].precision for name in names] == ["int4", "int8", "int4"]


def test_of_the_patterns_that_fit_the_last_decides(model, tmp_path):
    (tmp_path / "p.yaml").write_text("layers: {'*': int4, 's*': {precision: int8, reason: mine}, second: fp32}")
    found = read_plan(tmp_path / "p.yaml", model).layers
    assert {weight: one.precision for weight, one in found.items()} == {
        "first": "int4",
        "second": "fp32",
        "dense": "int4",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("layers: {'*': int8, secnod: int4}", "did you mean 'second'"),
        ("layers: {first: int8, dense: int8}", "says nothing about second"),
        ("layers: {'*': int2}", "int2"),
        ("layers: {'*': {precision: int8, wide: [0]}}", "only a Conv, Gemm or MatMul in int4"),
        ("layers: {'*': int4, first: {precision: int4, wide: [4]}}", "channels 0 to 3"),
        ("layers: {'*': int4, first: {precision: int4, wide: [0, 1, 2, 3]}}", "not all of them"),
        ("layers: {'*': {precision: int4, bits: 3}}", "bits"),
        ("- int8", "expected `key: value` lines"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_in_one_line(model, tmp_path, text, told):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(EdgePruneError, match=told) as caught:
        read_plan(tmp_path / "p.yaml", model)
    assert isinstance(caught.value, ConfigError)
    assert "\n" not in str(caught.value)
