from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeprune.targets.load import load_target


@pytest.fixture
def table(program, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield program("variant_table")
    sys.modules.pop("compile_table", None)


def test_a_row_tells_what_was_meant_what_ran_and_what_it_takes(table, shared_data, tmp_path):
    found = {row.variant: row for row in table.rows("lenet5", load_target("cpu"), tmp_path)}
    assert {"ort-fp32", "ort-int8", "ort-int4"} <= set(found)
    assert found["ort-int8"].meant == found["ort-int8"].ran == {"int8": 5}
    narrow = found["ort-int4"]
    assert narrow.cells()[3:6] == ("5", "5 int8 (5 of them stored in 4 bits)", "5 int8")
    assert narrow.file_bytes < found["ort-int8"].file_bytes < found["ort-fp32"].file_bytes
    assert all(row.build_s > 0 for row in found.values())


def test_what_cannot_run_here_says_why(table, shared_data, tmp_path):
    for row in table.rows("lenet5", load_target("jetson"), tmp_path):
        assert (row.ran, row.not_run) == ({}, "no aarch64")
        assert row.cells()[5] == "no aarch64"


def test_the_page_has_a_row_each_and_the_reasons_below(table):
    row = table.Row("cnn", "cpu", "ort-int8", {"fp32": 1, "int8": 3}, 0, {"int8": 4}, "", 12_345, 0.24)
    page = table.page([row], [("bert-base", "rpi5", "no rows")])
    assert "| cnn | cpu | ort-int8 | 4 | 3 int8, 1 fp32 | 4 int8 | 12 | 0.2 |" in page
    assert "- bert-base for rpi5: no rows" in page
