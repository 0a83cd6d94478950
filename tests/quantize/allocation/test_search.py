from dataclasses import replace

import pytest

from edgeprune.quantize.allocation.allocate import Option, total
from edgeprune.quantize.allocation.search import best_within_size, smallest_within
from edgeprune.quantize.spec import LayerQuant

BESIDE = 1000
"""Bytes of a file that are not weights."""


def options(layers: int = 8):
    return {
        f"w{index}": (
            Option(LayerQuant("fp32"), 0.0, 4000, 4000),
            Option(LayerQuant("int8"), 0.001 * 2**index, 1000, 1000),
            Option(LayerQuant("int4"), 0.02 * 2**index, 500, 1000),
        )
        for index in range(layers)
    }


def verify_with(points_per_loss: float, given, asked: list | None = None):
    """Measures what is predicted, times a factor that the prediction does not know."""

    def verify(plan):
        if asked is not None:
            asked.append(repr(plan))
        return points_per_loss * total(given, plan, "loss"), int(total(given, plan, "size_bytes")) + BESIDE

    return verify


@pytest.mark.parametrize("points_per_loss", [0.3, 3.0, 30.0, 300.0])
def test_the_smallest_plan_that_holds_is_found_whatever_a_nat_is_in_points(points_per_loss):
    given = options()
    found, tried = smallest_within(given, verify_with(points_per_loss, given), max_drop=1.0)
    assert found.lost_points <= 1.0
    assert found.file_bytes == min(one.file_bytes for one in tried if one.lost_points <= 1.0)
    narrower = [one for one in tried if one.file_bytes < found.file_bytes]
    assert all(one.lost_points > 1.0 for one in narrower)


def test_where_four_bits_hold_everywhere_nothing_else_is_tried():
    given = options()
    found, tried = smallest_within(given, verify_with(0.01, given), max_drop=1.0)
    assert len(tried) == 1
    assert {one.precision for one in found.plan.layers.values()} == {"int4"}


def test_where_none_holds_the_one_that_loses_least_is_given():
    given = options()

    def verify(plan):
        return 5.0 + total(given, plan, "loss"), int(total(given, plan, "size_bytes"))

    found, _ = smallest_within(given, verify, max_drop=1.0)
    assert {one.precision for one in found.plan.layers.values()} == {"fp32"}


@pytest.mark.parametrize("search", [smallest_within, best_within_size])
def test_every_plan_that_is_tried_keeps_the_other_limits(search):
    given = {
        weight: tuple(replace(one, latency_ms=4.0 if one.quant.precision == "fp32" else 1.0) for one in choices)
        for weight, choices in options().items()
    }
    points_per_loss, most = 300.0, {smallest_within: 1.0, best_within_size: 20_000.0}[search]
    _, tried = search(given, verify_with(points_per_loss, given), most, {"latency_ms": 17.0})
    assert all(total(given, one.plan, "latency_ms") <= 17.0 for one in tried)
    assert any("fp32" in {layer.precision for layer in one.plan.layers.values()} for one in tried)  # there was room


def test_a_limit_that_no_plan_keeps_gives_the_one_that_is_nearest():
    given = {
        weight: tuple(replace(one, latency_ms=4.0 if one.quant.precision == "fp32" else 1.0) for one in choices)
        for weight, choices in options().items()
    }
    found, _ = smallest_within(given, verify_with(300.0, given), 1.0, {"latency_ms": 0.1})
    assert total(given, found.plan, "latency_ms") == len(given)


def test_no_plan_is_measured_twice():
    given, asked = options(2), []
    smallest_within(given, verify_with(3.0, given, asked), max_drop=1.0)
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("max_bytes", [5000, 6400, 7777, 9000, 40000])
def test_a_file_of_the_size_asked_for_is_filled_with_what_loses_least(max_bytes):
    given = options()
    found, tried = best_within_size(given, verify_with(1.0, given), max_bytes)
    assert found.file_bytes <= max_bytes
    assert found.predicted_loss <= min(one.predicted_loss for one in tried if one.file_bytes <= max_bytes)


def test_where_no_file_is_small_enough_the_smallest_is_given():
    given = options()
    found, _ = best_within_size(given, verify_with(1.0, given), 4999)
    assert {one.precision for one in found.plan.layers.values()} == {"int4"}
