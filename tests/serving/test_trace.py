from __future__ import annotations

import numpy as np
import pytest

from edgeprune.errors import DataError, UnknownNameError
from edgeprune.serving.trace import GENERATED, Capacity, Trace, generate, read_trace, write_trace

CAPACITY = Capacity(precise=500.0, fastest=1000.0)


@pytest.mark.parametrize("kind", GENERATED)
def test_a_generated_trace_overloads_the_most_precise_rung_in_a_phase_and_never_the_fastest(kind):
    trace = generate(kind, CAPACITY, phase_s=5.0, seed=1)
    windows, _ = np.histogram(trace.arrivals_s, np.arange(0.0, trace.seconds, 2.0))
    assert windows.max() / 2 > 1.1 * CAPACITY.precise
    assert windows.max() / 2 < CAPACITY.fastest
    assert (np.diff(trace.arrivals_s) >= 0).all()
    np.testing.assert_array_equal(trace.arrivals_s, generate(kind, CAPACITY, phase_s=5.0, seed=1).arrivals_s)
    assert len(trace.arrivals_s) != len(generate(kind, CAPACITY, phase_s=5.0, seed=2).arrivals_s)


def test_an_unknown_kind_gets_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'bursty'"):
        generate("burst", CAPACITY, phase_s=1.0, seed=0)


def test_a_trace_is_read_as_it_was_written(tmp_path):
    trace = Trace("a", np.array([0.0, 0.1, 1 / 3]), ("alarm", "", "alarm"))
    write_trace(trace, tmp_path / "a.csv")
    read = read_trace(tmp_path / "a.csv")
    np.testing.assert_array_equal(read.arrivals_s, trace.arrivals_s)
    assert read.classes == trace.classes
    write_trace(Trace("b", trace.arrivals_s), tmp_path / "b.csv")
    assert read_trace(tmp_path / "b.csv").classes == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arrival_s\n0.5\n-1\n", "request 2 arrives at -1 s: times are 0 or more"),
        ("arrival_s\n0.5\nnan\n", "request 2 arrives at nan s"),
        ("arrival_s\n0.5\n0.7\n0.6\n", "request 3 arrives at 0.6 s, before the one at 0.7 s: sort it"),
        ("arrival_s\nsoon\n", "line 2: 'soon' is no time in seconds"),
        ("arrival_s\n", "holds no request"),
        ("", "no column arrival_s"),
        ("when\n1\n", "no column arrival_s"),
        (None, "cannot be read as CSV"),
    ],
)
def test_a_trace_that_is_none_is_refused_with_its_line(tmp_path, text, said):
    if text is not None:
        (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_trace(tmp_path / "t.csv")
