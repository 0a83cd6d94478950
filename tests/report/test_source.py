from __future__ import annotations

import json
import shutil

import pytest

from edgeprune.errors import CorruptError, InputError
from edgeprune.report.bench_results import keep
from edgeprune.report.source import find


def test_kept_measurements_are_found_again(measured, tmp_path):
    path = keep(measured, tmp_path / "cnn-cpu", tmp_path / "results")
    (tmp_path / "results" / "notes.txt").write_text("not a measurement")
    (found,) = find([tmp_path])
    assert (found.measured, found.core, found.path, found.name) == (measured, None, path, "cnn")


def test_json_files_that_were_not_kept_are_none_of_ours(measured, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "package.json").write_text("{}")
    keep(measured, tmp_path / "cnn-cpu", tmp_path / "results")
    assert len(find([tmp_path])) == 1


def test_what_is_below_two_of_the_folders_is_found_once(measured, tmp_path):
    keep(measured, tmp_path / "cnn-cpu", tmp_path / "results")
    assert len(find([tmp_path, tmp_path / "results"])) == 1


def test_all_damaged_measurements_are_told_at_once(measured, tmp_path):
    for name in ("a", "b", "c", "d"):
        keep(measured, tmp_path / f"{name}-cpu", tmp_path)
    (tmp_path / "cpu" / "a.json").write_text("{")
    (tmp_path / "cpu" / "c.json").write_bytes((tmp_path / "cpu" / "c.json").read_bytes()[:500])
    with pytest.raises(CorruptError) as error:
        find([tmp_path])
    assert "a.json: not a measurement" in str(error.value)
    assert "and 1 more: " in str(error.value)
    assert "c.json: not a measurement" in str(error.value)


@pytest.mark.parametrize("schema", [0, 99, None, "1"])
def test_a_measurement_of_another_schema_is_told_with_both(measured, tmp_path, schema):
    path = keep(measured, tmp_path / "cnn-cpu", tmp_path)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"schema": schema}))
    with pytest.raises(CorruptError, match=rf"cnn\.json: schema {schema!r}, this version reads 1: measure again"):
        find([tmp_path])


def test_where_nothing_was_measured_the_command_to_run_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing measured below: run `edgeprune compile`"):
        find([tmp_path])
    with pytest.raises(InputError, match="no such folder"):
        find([tmp_path / "nowhere"])


def test_a_bundle_is_found_with_what_it_says_of_itself(bundles, tmp_path):
    shutil.copytree(bundles["cpu"], tmp_path / "cnn")
    (found,) = find([tmp_path])
    assert found.name == "cnn"
    assert found.core is not None
    assert found.core.sha256["recipe.yaml"]
    assert all(layer.weights > 0 for layer in found.core.baseline.layers)


def test_measurements_of_another_bundle_are_refused(bundles, tmp_path):
    shutil.copytree(bundles["cpu"], tmp_path / "cnn")
    shutil.copy(bundles["narrow"] / "measured.json", tmp_path / "cnn" / "measured.json")
    with pytest.raises(
        CorruptError, match=r"measured\.json: of another bundle than the one it lies in: run `edgeprune"
    ):
        find([tmp_path])
