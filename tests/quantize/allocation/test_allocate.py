from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.errors import BudgetError
from edgeprune.quantize.allocation.allocate import Option, allocate, total
from edgeprune.quantize.spec import LayerQuant, QuantPlan

PRECISIONS = ("fp32", "int8", "int4")


def layer(losses, sizes, times=(0.0, 0.0, 0.0)):
    return tuple(
        Option(LayerQuant(precision), loss, size, size, ms)
        for precision, loss, size, ms in zip(PRECISIONS, losses, sizes, times, strict=True)
    )


@st.composite
def layers(draw):
    numbers = st.floats(0, 10, allow_subnormal=False)
    found = {}
    for index in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 50))
        losses = sorted([0.0, draw(numbers), draw(numbers)])
        found[f"w{index}"] = layer(losses, (8 * size, 2 * size, size), draw(st.tuples(numbers, numbers, numbers)))
    return found


def every_plan(options):
    for choices in product(*options.values()):
        yield QuantPlan(dict(zip(options, (one.quant for one in choices), strict=True)))


@settings(deadline=None, max_examples=40)
@given(layers(), st.floats(0.05, 1.2))
def test_no_other_plan_within_the_limits_loses_less(options, share):
    limits = {"size_bytes": share * sum(choices[0].size_bytes for choices in options.values()), "latency_ms": 25.0}
    within = [
        plan
        for plan in every_plan(options)
        if all(total(options, plan, amount) <= limit for amount, limit in limits.items())
    ]
    if not within:
        with pytest.raises(BudgetError):
            allocate(options, "loss", limits)
        return
    found = allocate(options, "loss", limits)
    assert all(total(options, found, amount) <= limit * (1 + 1e-6) for amount, limit in limits.items())
    least = min(total(options, plan, "loss") for plan in within)
    largest = max(option.loss for choices in options.values() for option in choices)
    assert total(options, found, "loss") <= least + 1e-5 * max(largest, 1e-9)


def test_the_layer_that_loses_least_for_its_bytes_is_narrowed_first():
    options = {"robust": layer((0, 0.1, 0.2), (400, 100, 50)), "fragile": layer((0, 0.1, 9.0), (400, 100, 50))}
    found = allocate(options, "loss", {"size_bytes": 150})
    assert {weight: one.precision for weight, one in found.layers.items()} == {"robust": "int4", "fragile": "int8"}


def test_the_smallest_within_a_loss_is_float_where_none_is_allowed():
    options = {"a": layer((0, 0.1, 0.2), (400, 100, 50)), "b": layer((0, 0, 0.2), (400, 100, 50))}
    found = allocate(options, "size_bytes", {"loss": 0.0})
    assert {weight: one.precision for weight, one in found.layers.items()} == {"a": "fp32", "b": "int8"}


def test_a_budget_that_no_plan_meets_says_what_the_least_is():
    options = {"a": layer((0, 1, 2), (400, 100, 50)), "b": layer((0, 1, 2), (40, 10, 5))}
    with pytest.raises(BudgetError, match=r"size_bytes within 54 bytes.* 55 bytes"):
        allocate(options, "loss", {"size_bytes": 54})


def test_budgets_that_are_met_one_by_one_but_not_together_are_told():
    options = {"a": layer((0, 1, 2), (400, 100, 50), (1, 5, 9))}
    with pytest.raises(BudgetError, match="all at once"):
        allocate(options, "loss", {"size_bytes": 60, "latency_ms": 2})
