import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.roofline import ARITHMETIC, MEMORY, Part, Peaks, limit

PEAKS = Peaks(
    ops_per_s={"fp32": 1e11, "int8": 4e11},
    runtimes={"fp32": "ort", "int8": "openvino"},
    bytes_per_s=((1 << 10, 1e11), (1 << 20, 5e10), (1 << 30, 1e10)),
    measured_at="2026-11-24T12:00:00+00:00",
)
BYTES = st.integers(0, 10**9)
PARTS = st.builds(Part, st.integers(0, 10**12), BYTES, BYTES, st.sampled_from(["fp32", "int8", "int4"]))


def test_what_computes_much_for_each_byte_is_limited_by_arithmetic():
    found = limit([Part(10**9, 1000, 1000, "fp32")], PEAKS, 1000)
    assert found.ms == pytest.approx(10)
    assert found.bound == ARITHMETIC
    assert found.share(20) == pytest.approx(0.5)
    assert found.gops(20) == pytest.approx(50)
    assert found.intensity == pytest.approx(5e5)


def test_weights_come_from_where_the_whole_network_fits_and_the_rest_from_where_it_fits_itself():
    found = limit([Part(1000, 1 << 20, 1 << 10, "fp32")], PEAKS, 1 << 30)
    assert found.ms == pytest.approx(1e3 * ((1 << 20) / 1e10 + (1 << 10) / 1e11))
    assert found.bound == MEMORY
    assert found.gbytes(found.ms) == pytest.approx(10, rel=0.01)


def test_four_bits_are_computed_in_eight_and_what_no_runtime_computes_in_as_float():
    times = {one: limit([Part(10**9, 0, 0, one)], PEAKS, 1).ms for one in ("fp32", "int8", "int4", "fp16")}
    assert times["int4"] == times["int8"] == pytest.approx(times["fp32"] / 4)
    assert times["fp16"] == times["fp32"]


@given(st.lists(PARTS, min_size=1, max_size=6), st.integers(0, 10**10))
def test_the_limit_is_no_less_than_that_of_arithmetic_alone_and_adds_up(parts, network_bytes):
    whole = limit(parts, PEAKS, network_bytes)
    alone = [limit([part], PEAKS, network_bytes) for part in parts]
    assert whole.ms == pytest.approx(sum(one.ms for one in alone))
    assert whole.ms >= 0.999e3 * sum(part.operations for part in parts) / 4e11
    assert whole.bytes == sum(one.bytes for one in alone)


@given(st.integers(0, 1 << 34), st.integers(0, 1 << 34))
def test_a_larger_working_set_is_never_faster(one, other):
    assert PEAKS.bandwidth(min(one, other)) >= PEAKS.bandwidth(max(one, other))
