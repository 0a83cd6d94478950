import pytest

from edgeprune.energy_estimate import estimated_joules
from edgeprune.roofline import Part


def test_a_multiply_accumulate_takes_what_is_published():
    million = {one: estimated_joules([Part(2_000_000, 0, 0, one)]) for one in ("fp32", "int8", "int4")}
    assert million["fp32"] == pytest.approx(4.6e-6)
    assert million["int8"] == million["int4"] == pytest.approx(0.3e-6)


def test_a_weight_comes_from_dram_whatever_holds_the_network():
    assert estimated_joules([Part(0, 800, 0, "fp32")]) == pytest.approx(100 * 1300e-12)


@pytest.mark.parametrize(("held", "pj"), [(8 << 10, 10), (9 << 10, 20), (1 << 20, 100), (2 << 20, 1300)])
def test_all_else_comes_from_the_smallest_memory_that_holds_it(held, pj):
    assert estimated_joules([Part(0, 0, held, "fp32")]) == pytest.approx(held / 8 * pj * 1e-12)


def test_operators_add_up():
    parts = [Part(1000, 10, 20, "fp32"), Part(500, 5, 7, "int8")]
    assert estimated_joules(parts) == pytest.approx(sum(estimated_joules([part]) for part in parts))
