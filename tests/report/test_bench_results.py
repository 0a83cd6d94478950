from __future__ import annotations

import pytest

from edgeprune.errors import CorruptError, InputError, OutputError
from edgeprune.report.bench_results import find, keep
from edgeprune.results import read_measured


def test_a_measurement_is_kept_by_target_and_bundle_and_the_table_is_written_anew(measured, tmp_path):
    path = keep(measured, tmp_path / "build" / "cnn-digits-cpu", tmp_path / "results")
    assert path == tmp_path / "results" / "cpu" / "cnn-digits.json"
    assert read_measured(path) == measured
    keep(measured, tmp_path / "build" / "other", tmp_path / "results")
    readme = (tmp_path / "results" / "README.md").read_text()
    assert "## cpu" in readme
    assert "| cnn-digits | ort-int8 (default) |" in readme
    assert "| other | ort-int8 (default) |" in readme


def test_kept_measurements_are_found_again(measured, tmp_path):
    keep(measured, tmp_path / "cnn-cpu", tmp_path / "results")
    (tmp_path / "results" / "notes.txt").write_text("not a measurement")
    assert find([tmp_path]) == [(None, measured)]


def test_json_files_that_were_not_kept_are_none_of_ours(measured, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "package.json").write_text("{}")
    keep(measured, tmp_path / "cnn-cpu", tmp_path / "results")
    assert len(find([tmp_path])) == 1


def test_a_damaged_kept_measurement_is_told(measured, tmp_path):
    keep(measured, tmp_path / "cnn-cpu", tmp_path).write_text("{")
    with pytest.raises(CorruptError, match=r"cnn\.json: not a measurement"):
        find([tmp_path])


def test_where_nothing_was_measured_the_command_to_run_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing measured below: run `edgeprune compile`"):
        find([tmp_path])
    with pytest.raises(InputError, match="no such folder"):
        find([tmp_path / "nowhere"])


def test_a_file_in_the_way_is_told(measured, tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(OutputError, match="choose another --out"):
        keep(measured, tmp_path / "cnn-cpu", tmp_path / "results")
