from __future__ import annotations

import pytest
from rich.console import Console

from edgeprune.latency_table import Key, Prediction, Timed, TimedVariant, Work
from edgeprune.report.operators import foretold, operator_page
from edgeprune.roofline import Peaks

LONG = "MatMul + Add + Transpose + Mul + Add + Where"

PEAKS = Peaks({"fp32": 1e11, "int8": 4e11}, {}, ((1 << 10, 1e11), (1 << 30, 1e10)), "")


def timed(operator, ms, count, macs=1_000_000):
    return Timed(Key("ort", operator, "1x256x100x100 > 1x256x100x100", "int8"), count, ms, Work(macs, 1, 1))


VARIANT = TimedVariant("ort-int8", 10.0, (timed("Conv 3x3 + Relu", 2.0, 3), timed(LONG, 4.0, 1, macs=0)))


def shown(page):
    console = Console(width=100)
    with console.capture() as captured:
        console.print(page)
    return captured.get()


def test_what_takes_most_in_all_stands_first_within_100_columns():
    lines = shown(operator_page(VARIANT, None)).splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[-3:] for line in lines if "int8  " in line] == [
        ["2.0000", "60.0", "1.0"],
        ["4.0000", "40.0", "-"],
    ]


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (None, "measured 10.0000 ms; predicted: nothing, there was no table before"),
        (Prediction(11.0, 0.25, ()), "measured 10.0000 ms; predicted 11.0000 ms (+10.0 %), 25 % of it interpolated"),
        (
            Prediction(None, 0, ("LSTM in fp32",)),
            "measured 10.0000 ms; predicted: nothing, the table knew no LSTM in fp32",
        ),
        (
            Prediction(None, 0, ("a", "b", "c")),
            "measured 10.0000 ms; predicted: nothing, the table knew no a and 2 more",
        ),
    ],
)
def test_the_prediction_stands_beside_what_was_measured(before, said):
    assert foretold(10.0, before) == said


def test_a_variant_that_cannot_run_says_why():
    assert "not measured: no OpenVINO" in shown(
        operator_page(TimedVariant("v", None, (), unmeasured="no OpenVINO"), None)
    )


def test_beside_the_peaks_of_a_machine_each_says_how_much_of_them_it_reaches():
    half = timed("Conv 3x3", 1.0, 1, macs=100_000_000)  # 2e8 operations, of 4e11 in a second
    lines = shown(operator_page(TimedVariant("v", 1.0, (half,)), None, PEAKS)).splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[-1] for line in lines if "int8  " in line] == ["50"]
