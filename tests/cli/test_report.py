from __future__ import annotations

import csv
import json
import shutil

import pytest
from click.testing import CliRunner

from edgeprune.cli.main import main
from edgeprune.metrics import wilson
from edgeprune.report.bench_results import keep
from edgeprune.results import Accuracy, Measured, Measurement


@pytest.fixture
def results(tmp_path):
    """A folder with the measurement of one bundle."""
    accuracy = Accuracy("top1", "report", 10, wilson(9, 10), None, "measured")
    baseline = Measurement("ab", "cnn", "cpu", "ort-fp32", "ort", "fp32", 100, (accuracy,), samples_ms=((1.0, 1.1),))
    keep(Measured("ort-fp32", "alone", baseline, ()), tmp_path / "cnn", tmp_path / "results")
    return tmp_path / "results"


def report(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_a_page_is_written_about_what_was_measured(results, tmp_path):
    page = tmp_path / "pages" / "report.html"
    shown = report(results, "-o", page, "--json")
    assert json.loads(shown.stdout) == {"files": [str(page)], "bundles": 1}
    assert "cnn for cpu" in page.read_text()


def test_without_a_file_the_tables_are_on_the_terminal(results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = report(results)
    assert "ort-fp32 is the default (alone)" in shown.stdout
    assert not list(tmp_path.glob("*.html"))
    (found,) = json.loads(report(results, "--json").stdout)
    assert (found["bundle"], found["default"]) == ("cnn", "ort-fp32")


def test_bundles_stand_side_by_side_and_those_that_did_not_run_apart(bundles):
    shown = report(*bundles.values())
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 100
    assert shown.stdout.count("speed-up") == 2
    assert "jetson-orin-nano, not measured: no device" in shown.stdout


def test_a_table_of_two_kinds_is_refused_in_one_line_and_made_apart(bundles, tmp_path):
    refused = report(*bundles.values(), "-o", tmp_path / "all.csv")
    assert refused.exit_code == 2
    assert "were not measured alike (measured yes / no: no device" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    done = report(*bundles.values(), "-o", tmp_path / "all.csv", "--apart")
    assert done.exit_code == 0
    with (tmp_path / "all-1.csv").open(newline="") as file:
        assert {row["bundle"] for row in csv.DictReader(file)} == {"cpu", "narrow"}
    assert (tmp_path / "all-2.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "report.pdf"), "ends in .html, .md, .csv, .parquet"),
        (("-o", "report.html", "--apart"), "--apart has no effect"),
        (("--apart",), "--apart has no effect without -o FILE"),
    ],
)
def test_what_cannot_be_written_is_refused(results, arguments, said):
    refused = report(results, *arguments)
    assert refused.exit_code == 2
    assert said in " ".join(refused.stderr.split())


def test_damage_is_told_in_one_line_that_names_the_file(bundles, tmp_path):
    shutil.copytree(bundles["cpu"], tmp_path / "cnn")
    (tmp_path / "cnn" / "measured.json").write_text('{"schema": 1, "default": ')
    refused = report(tmp_path, "-o", tmp_path / "report.html")
    assert refused.exit_code == 2
    assert "cnn/measured.json: not a measurement" in refused.stderr
    assert refused.stderr.count("\n") == 1
