from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeprune.errors import MissingError
from edgeprune.targets.load import load_target
from edgeprune.targets.machine import architecture


@pytest.fixture
def table(program, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield program("variant_table")
    for name in ("compile_table", "tensorrt_layers"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What is the same for every target is made in it once."""
    return tmp_path_factory.mktemp("table")


def test_a_row_tells_what_was_meant_what_ran_and_what_it_takes(table, shared_data, folder):
    found = {row.variant: row for row in table.rows("lenet5", load_target("cpu"), folder)}
    assert {"ort-fp32", "ort-int8", "ort-int4"} <= set(found)
    assert found["ort-int8"].meant == found["ort-int8"].ran == {"int8": 5}
    narrow = found["ort-int4"]
    assert narrow.cells()[3:6] == ("5", "5 int8 (5 of them stored in 4 bits)", "5 int8")
    assert narrow.file_bytes < found["ort-int8"].file_bytes < found["ort-fp32"].file_bytes
    assert all(row.build_s > 0 for row in found.values())


@pytest.mark.system
def test_what_cannot_run_here_says_why(table, shared_data, folder):
    said = {"rpi5": "not read: this machine is no aarch64", "jetson": "not read: TensorRT-RTX is not installed"}
    if architecture() == "aarch64":
        del said["rpi5"]
    for target, why in said.items():
        for row in table.rows("lenet5", load_target(target), folder):
            assert (row.ran, row.not_run) == ({}, why)
            assert row.cells()[5] == why


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX")
def test_of_tensorrt_the_kernels_are_told_that_nvidias_compiler_chose_and_that_it_is_another(
    table, shared_data, folder
):
    try:
        trt = table.compiler()
    except MissingError as error:
        pytest.skip(str(error))
    found = {row.variant: row for row in table.rows("lenet5", load_target("jetson"), folder, trt)}
    assert found["tensorrt-int8"].cells()[5] == "5 int8 (RTX)"
    assert found["tensorrt-fp16"].cells()[5] == "5 fp16 (RTX)"


def test_what_the_compiler_refuses_stays_one_cell(table):
    row = table.Row("cnn", "jetson", "tensorrt-int8", {"int8": 4}, 0, {}, "refused:\n a | b", 1, 0.1, "RTX")
    assert row.cells()[5] == r"refused: a \| b"


def test_the_page_has_a_row_each_and_the_reasons_below(table):
    row = table.Row("cnn", "cpu", "ort-int8", {"fp32": 1, "int8": 3}, 0, {"int8": 4}, "", 12_345, 0.24)
    page = table.page([row], [("bert-base", "rpi5", "no rows")])
    assert "| cnn | cpu | ort-int8 | 4 | 3 int8, 1 fp32 | 4 int8 | 12 | 0.2 |" in page
    assert "- bert-base for rpi5: no rows" in page
    assert f"the kernels that the compiler of TensorRT-RTX chose for {sys.modules['tensorrt_layers'].NEAREST}," in page
