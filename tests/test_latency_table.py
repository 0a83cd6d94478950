from __future__ import annotations

import pytest

from edgeprune.errors import CorruptError, InputError
from edgeprune.latency_table import (
    SCHEMA,
    Entry,
    Key,
    LatencyTable,
    Timed,
    TimedVariant,
    Work,
    read_table,
    write_table,
)

AT = "2026-01-01T00:00:00+00:00"
CONV = Key("ort", "Conv 3x3 + Relu", "", "int8")


def entry(ms, macs=1000, numbers=100, channels=16, key=CONV, source="a:ort-int8", network_bytes=1000):
    named = key._replace(shapes=f"{macs},{numbers},{channels}")
    return Entry(named, source, ms, Work(macs, numbers, channels), network_bytes, AT)


def table(*entries, machine="M", environment="e0"):
    return LatencyTable("cpu", machine, environment, tuple(entries))


def ms(found):
    return None if found is None else found.ms


def test_what_is_written_is_read_back(tmp_path):
    written = table(entry(0.123456), entry(0.0, macs=0), entry(2.5, source="b:ort-int8"))
    path = tmp_path / "cpu" / "latency.csv"
    write_table(written, path)
    read = read_table(path)
    assert set(read.entries) == set(written.entries)
    assert (read.target, read.machine, read.environment) == ("cpu", "M", "e0")
    assert [one.name for one in path.parent.iterdir()] == ["latency.csv"]


def test_shapes_that_were_measured_are_told_as_they_were_and_others_are_marked():
    known = table(entry(1.0), entry(4.0, macs=4000, numbers=400))
    one = known.entries[0]
    assert known.lookup(one.key, one.work, 1000) == (1.0, False)
    found = known.lookup(CONV._replace(shapes="new"), Work(2000, 200, 16), 1000)
    assert found is not None
    assert found.interpolated


@pytest.mark.parametrize(
    "key", [CONV._replace(operator="Softmax"), CONV._replace(precision="fp32"), CONV._replace(runtime="openvino")]
)
def test_of_what_nothing_alike_was_measured_nothing_is_told(key):
    known = table(entry(1.0), entry(4.0, macs=4000))
    assert known.lookup(key, Work(1000, 100, 16), 1000) is None
    found = known.predict([(key, Work(1000, 100, 16), 1), (CONV, Work(1000, 100, 16), 2)], 1000)
    assert found.ms is None
    assert found.unknown == (f"{key.operator} in {key.precision}",)


@pytest.mark.parametrize(
    ("start", "per_mac", "per_byte"), [(0.01, 0, 0), (0, 1e-5, 0), (0, 0, 1e-4), (0.01, 2e-5, 3e-4)]
)
def test_times_that_are_a_start_and_shares_of_arithmetic_and_memory_are_told_exactly(start, per_mac, per_byte):
    def true(work):
        return start + per_mac * work.macs + per_byte * work.bytes

    works = [Work(macs, numbers, 16) for macs, numbers in [(1000, 300), (2000, 100), (4000, 900), (9000, 200)]]
    known = table(*(entry(true(one), one.macs, one.bytes) for one in works))
    for work in (Work(3000, 250, 24), Work(20000, 2000, 64), Work(500, 50, 8)):  # between, beyond and below them
        assert ms(known.lookup(CONV, work, 1000)) == pytest.approx(true(work))


def test_a_neighbour_that_is_slower_than_its_work_says_makes_what_lies_beside_it_slow():
    usual = [entry(1e-3 * macs, macs, macs // 10, 16) for macs in (1000, 2000, 4000, 8000)]
    odd = entry(2 * 1.5, 1500, 150, 17)  # a channel more than fits the vector
    known = table(*usual, odd)
    beside, far = (ms(known.lookup(CONV, work, 1000)) for work in (Work(1520, 152, 17), Work(8000, 800, 16)))
    assert beside > 1.5 * 1.52
    assert far == pytest.approx(8.0, rel=0.1)


def test_what_runs_along_may_be_new_but_is_marked():
    known = table(entry(1.0), entry(2.0, macs=2000))
    found = known.lookup(known.entries[0].key._replace(operator="Conv 3x3 + Add"), Work(1000, 100, 16), 1000)
    assert found is not None
    assert found.interpolated
    assert 0.9 <= found.ms <= 2.1


def test_a_larger_network_makes_its_operators_slower_by_what_was_seen_and_no_more_than_twice_as_far():
    seen = [entry(2.0, source="small", network_bytes=10**6), entry(3.2, source="large", network_bytes=4 * 10**6)]
    known = table(*seen)  # 1.6 (1 + B / 4e6)
    of = [ms(known.lookup(seen[0].key, seen[0].work, size * 10**6)) for size in (1, 2, 4, 8, 100)]
    assert of == pytest.approx([2.0, 2.4, 3.2, 4.8, 4.8], rel=0.02)
    once = table(seen[0])
    assert ms(once.lookup(seen[0].key, seen[0].work, 16000)) == 2.0


def test_a_prediction_is_the_sum_over_all_operators():
    known = table(entry(1.0), entry(4.0, macs=4000))
    asked = [(one.key, one.work, count) for one, count in zip(known.entries, (3, 2), strict=True)]
    found = known.predict(asked, 1000)
    assert (found.ms, found.interpolated, found.unknown) == (11.0, 0.0, ())
    variant = TimedVariant("v", 11.0, tuple(Timed(key, n, 1.0, work) for key, work, n in asked), 1000)
    assert variant.foretold(known) == found


def test_an_operator_that_ran_inside_another_takes_no_time():
    known = table(entry(0.0), entry(0.0, macs=2000))
    assert ms(known.lookup(known.entries[0].key, Work(1000, 100, 16), 1000)) == 0
    assert ms(known.lookup(CONV, Work(1500, 100, 16), 1000)) == 0


def test_operations_count_twice_for_each_multiply_accumulate():
    assert Timed(CONV, 1, 0.5, Work(1_000_000, 1, 1)).gops == pytest.approx(4.0)


def test_what_is_measured_again_replaces_what_was():
    old = table(entry(1.0), entry(7.0, source="b:ort-int8"))
    merged = old.merged(table(entry(3.0)))
    assert sorted((one.source, one.ms) for one in merged.entries) == [("a:ort-int8", 3.0), ("b:ort-int8", 7.0)]


def test_times_of_two_environments_are_never_in_one_table(tmp_path):
    with pytest.raises(InputError, match="cannot be in one table"):
        table(entry(1.0)).merged(table(entry(1.0), environment="e1"))
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    write_table(table(entry(1.0)), a)
    write_table(table(entry(1.0), machine="N", environment="e1"), b)
    a.write_text(a.read_text() + b.read_text().partition("\n")[2])
    with pytest.raises(CorruptError, match="mixes times of 2 environments"):
        read_table(a)


def rows(tmp_path, change):
    path = tmp_path / "latency.csv"
    write_table(table(entry(1.0), entry(2.0, macs=2000)), path)
    head, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join(change(head, first, rest)) + "\n")
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda head, first, rest: [head, f"{SCHEMA + 1}{first[1:]}", *rest], f"schema '{SCHEMA + 1}'"),
        (lambda head, first, rest: [first, *rest], "schema None"),
        (lambda head, first, rest: [head], "holds no times"),
        (lambda head, first, rest: [], "holds no times"),
        (lambda head, first, rest: [head, first.replace(",1,", ",-1,", 1), *rest], "damaged (ValueError)"),
        (lambda head, first, rest: [head, *rest, first[:40]], "damaged (TypeError)"),
    ],
    ids=["schemas", "headless", "empty", "nothing", "negative", "cut"],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, change, said):
    path = rows(tmp_path, change)
    with pytest.raises(CorruptError) as error:
        read_table(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latency.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptError, match="not a latency table"):
        read_table(tmp_path / "latency.csv")
