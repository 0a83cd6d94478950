from __future__ import annotations

import dataclasses

from edgeprune.report.worth import TITLES, worth


def test_a_default_is_worth_five_values_with_their_bounds(measured):
    values = worth(measured)
    assert tuple(values) == TITLES
    assert (values["speed-up"].text, values["speed-up"].below) == ("2.68x", "2.63 to 2.76")
    assert (values["size"].text, values["size"].below) == ("9 %", "44.7 kB")
    assert values["accuracy"].text == "97.6 %"
    assert values["points lost"].text == "0.44"
    assert values["latency p50"].text.endswith(" µs")


def test_what_was_not_measured_is_a_dash_and_what_was_simulated_says_so(measured):
    values = worth(dataclasses.replace(measured, default="tensorrt-int8"))
    assert values["speed-up"].text == values["latency p50"].text == "-"
    assert values["accuracy"].below.endswith(", simulated")


def test_without_a_default_there_is_nothing(measured):
    assert worth(dataclasses.replace(measured, default=None)) == {}
