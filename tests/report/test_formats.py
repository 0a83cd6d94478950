from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from edgeprune.errors import InputError
from edgeprune.report.formats import check_format, write


@pytest.fixture
def elsewhere(source):
    environment = dataclasses.replace(source.measured.baseline.environment, machine="another")
    baseline = dataclasses.replace(source.measured.baseline, environment=environment)
    return dataclasses.replace(source, measured=dataclasses.replace(source.measured, baseline=baseline))


@pytest.mark.parametrize("name", ["report", "report.pdf", "report.html.gz", "report.json"])
def test_a_format_there_is_none_of_is_refused_with_those_there_are(name):
    with pytest.raises(InputError, match=r"ends in \.html, \.md, \.csv, \.parquet"):
        check_format(Path(name), apart=False)


def test_apart_is_refused_where_it_changes_nothing():
    with pytest.raises(InputError, match="--apart has no effect"):
        check_format(Path("report.html"), apart=True)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_of_unlike_measurements_is_refused_and_nothing_is_written(source, elsewhere, tmp_path, suffix):
    with pytest.raises(InputError, match="not measured alike"):
        write([source, elsewhere], tmp_path / f"all{suffix}", apart=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_apart_each_kind_has_a_file_of_its_own(source, elsewhere, tmp_path, suffix):
    written = write([source, elsewhere, source], tmp_path / f"all{suffix}", apart=True)
    assert written == {tmp_path / f"all-1{suffix}": 2, tmp_path / f"all-2{suffix}": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"all-1{suffix}", f"all-2{suffix}"]


def test_pages_have_a_table_for_each_kind(source, elsewhere, tmp_path):
    write([source, elsewhere], tmp_path / "all.md", apart=False)
    text = (tmp_path / "all.md").read_text()
    assert text.count("## ") == 2
    assert text.count("| model | variant |") == 2
    write([source, elsewhere], tmp_path / "all.html", apart=False)
    assert "another, 1 thread" in (tmp_path / "all.html").read_text()


def test_a_table_of_like_measurements_is_one_file(source, tmp_path):
    assert write([source, source], tmp_path / "new" / "all.parquet", apart=False) == {
        tmp_path / "new" / "all.parquet": 2
    }
    assert pq.read_table(io.BytesIO((tmp_path / "new" / "all.parquet").read_bytes())).num_rows == 12
