from __future__ import annotations

import pytest

from edgeprune.bundle import Bundle
from edgeprune.errors import CorruptError, OutputError
from edgeprune.report.bench_results import check_out, keep
from edgeprune.report.source import find
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


def test_a_file_in_the_way_is_told(measured, tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(OutputError, match="choose another --out"):
        keep(measured, tmp_path / "cnn-cpu", tmp_path / "results")


def test_a_readme_of_others_is_refused_and_ours_is_not(measured, core, tmp_path):
    bundle = Bundle(tmp_path / "cnn-cpu", core, "ab")
    check_out([bundle], tmp_path / "results")
    keep(measured, bundle.root, tmp_path / "results")
    check_out([bundle], tmp_path / "results")
    (tmp_path / "README.md").write_text("# My project\n")
    with pytest.raises(OutputError, match=r"README\.md: not written by `edgeprune bench`: choose another --out"):
        check_out([bundle], tmp_path)


def test_bundles_that_would_become_one_file_are_refused_by_name(core, tmp_path):
    first, second = (Bundle(tmp_path / name / "cnn-cpu", core, "ab") for name in "ab")
    with pytest.raises(OutputError, match=r"a/cnn-cpu and .*b/cnn-cpu would both be kept as .*cpu/cnn\.json"):
        check_out([first, second], tmp_path / "results")


def test_json_files_of_others_in_the_folder_are_left_alone(measured, core, tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "package.json").write_text('{"name": "site"}')
    bundle = Bundle(tmp_path / "cnn-cpu", core, "ab")
    check_out([bundle], tmp_path)
    keep(measured, bundle.root, tmp_path)
    assert "web" not in (tmp_path / "README.md").read_text()
    assert len(find([tmp_path])) == 1


def test_a_damaged_measurement_that_is_kept_is_told_before_another_is_made(measured, core, tmp_path):
    keep(measured, tmp_path / "old-cpu", tmp_path).write_text("{")
    with pytest.raises(CorruptError, match=r"old\.json: not a measurement"):
        check_out([Bundle(tmp_path / "new-cpu", core, "ab")], tmp_path)
    check_out([Bundle(tmp_path / "old-cpu", core, "ab")], tmp_path)
