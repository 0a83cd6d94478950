from __future__ import annotations

import csv
import dataclasses
import io

import pyarrow.parquet as pq
import pytest

from edgeprune.report.merged import Row, as_csv, as_parquet, rows


def test_every_variant_is_a_row_with_what_was_measured(source):
    table = rows([source, source])
    assert [row.variant for row in table[:2]] == ["baseline", "ort-fp32"]
    assert len(table) == 12
    chosen = next(row for row in table if row.is_default)
    record = source.measured.measurements[1]
    assert (chosen.variant, chosen.bundle, chosen.data) == ("ort-int8", "cnn", "digits")
    assert chosen.p50_ms == record.percentile_ms(50)
    assert chosen.speedup_low <= chosen.speedup <= chosen.speedup_high
    assert chosen.environment == record.environment.fingerprint()
    assert [row.is_baseline for row in table].count(True) == 2


def test_what_was_not_measured_is_missing_and_says_why(source):
    absent = next(row for row in rows([source]) if row.variant == "tensorrt-int8")
    assert (absent.p50_ms, absent.speedup, absent.energy_j, absent.machine) == (None, None, None, None)
    assert absent.unmeasured == "no device"
    assert absent.accuracy_source.startswith("simulated")


def test_csv_and_parquet_hold_the_same(source):
    table = rows([source])
    read = pq.read_table(io.BytesIO(as_parquet(table))).to_pylist()
    assert read == [dataclasses.asdict(row) for row in table]
    lines = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert list(lines[0]) == [field.name for field in dataclasses.fields(Row)]
    for line, row in zip(lines, table, strict=True):
        assert line == {name: "" if value is None else str(value) for name, value in dataclasses.asdict(row).items()}


def test_a_column_without_any_value_keeps_its_type(source):
    schema = pq.read_table(io.BytesIO(as_parquet(rows([source])[-1:]))).schema
    assert str(schema.field("energy_j").type) == "double"
    assert str(schema.field("p50_ms").type) == "double"
    assert str(schema.field("threads").type) == "int64"


@pytest.mark.parametrize("text", ['a,"b"', "line\nbreak", "µ"])
def test_any_text_comes_back_from_csv(source, text):
    odd = dataclasses.replace(source.measured, baseline=dataclasses.replace(source.measured.baseline, warnings=(text,)))
    (line, *_) = csv.DictReader(io.StringIO(as_csv(rows([dataclasses.replace(source, measured=odd)])), newline=""))
    assert line["warnings"] == text
