from __future__ import annotations

import json
import os
import sys

import pytest
from click.testing import CliRunner

from edgeprune.cli.main import main
from edgeprune.results import read_measured


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "photos"], "--data photos: {bundle} was made with digits, which is found by its name"),
        (["--metric", "score.py:fn"], "--metric score.py:fn: {bundle} is judged by top1"),
        (["--compare", "{bundle}", "--metric", "score.py:fn"], "--metric has no effect with --compare"),
        (["--operators", "--metric", "score.py:fn"], "--metric has no effect with --operators"),
        (["--operators", "--resume"], "--resume has no effect with --operators"),
        (["--compare", "{bundle}", "--out", "kept"], "--out has no effect with --compare"),
        (["--compare", "{bundle}", "--resume"], "--resume has no effect with --compare"),
        (["--noise-floor", "--fail-if-slower", "3"], "--fail-if-slower has no effect with --noise-floor"),
        (["--compare", "{bundle}", "--data", "photos"], "--data photos: {bundle} was made with digits"),
    ],
)
def test_an_option_that_says_where_nothing_is_looked_for_is_refused_in_one_line(
    bundles, tmp_path, monkeypatch, options, said
):
    monkeypatch.chdir(tmp_path)
    bundle = str(bundles["cpu"])
    given = [one.format(bundle=bundle) for one in options]
    shown = CliRunner().invoke(main, ["bench", bundle, *given])
    assert shown.exit_code == 2
    assert said.format(bundle=bundle) in " ".join(shown.stderr.split())


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--seconds", "0"], 2, "0.0 is not in the range x>0"),
        (["--seconds", "nan"], 2, "takes a time above 0, and an end: nan s given"),
        (["--operators", "--seconds", "nan"], 2, "operators are timed for a time above 0, and an end: nan s given"),
        (["--compare", "b", "--fail-if-slower", "nan"], 2, "--fail-if-slower nan never fails: give a percentage"),
        (["--scenario", "flood"], 2, "scenario 'flood'"),
        (["--scenario", "server"], 2, "by when must a query be answered? --deadline-ms says it"),
        (["--scenario", "multi-stream", "--batch", "3"], 2, "a query of 8 cannot be answered 3 at a time"),
        (["--qps", "5"], 2, "--qps has no effect without --scenario"),
        (["--scenario", "offline", "--qps", "5"], 2, "--qps has no effect with --scenario offline"),
        (["--scenario", "offline", "--resume"], 2, "--resume has no effect with --scenario"),
    ],
)
def test_a_load_that_cannot_be_made_is_refused_in_one_line(bundles, tmp_path, monkeypatch, options, code, said):
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(main, ["bench", str(bundles["cpu"]), *options])
    assert shown.exit_code == code
    assert said in " ".join(shown.stderr.split())
    assert not list(tmp_path.iterdir())


def test_a_scenario_is_kept_apart_and_every_row_says_it(bundles, tmp_path):
    pytest.importorskip("mlperf_loadgen", reason="LoadGen has no wheel here")
    before = (bundles["cpu"] / "measured.json").read_bytes()
    given = ["--scenario", "server", "--deadline-ms", "5", "--restarts", "1", "--seconds", "0.05"]
    shown = CliRunner().invoke(main, ["bench", str(bundles["cpu"]), "--out", str(tmp_path), *given])
    assert shown.exit_code == 0, shown.stderr
    assert "server, " in shown.stdout
    assert "deadline 5 ms" in shown.stdout
    rows = [line for line in shown.stdout.splitlines() if line.strip() in ("server", "unpruned, server")]
    assert len(rows) == 3
    assert (bundles["cpu"] / "measured.json").read_bytes() == before
    kept = read_measured(tmp_path / "cpu-server" / "cpu.json")
    assert {one.scenario.name for one in (kept.baseline, *kept.measurements)} == {"server"}
    assert "## cpu-server" in (tmp_path / "README.md").read_text()


def test_without_loadgen_a_scenario_ends_with_the_line_that_installs_it(bundles, tmp_path, monkeypatch):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "mlperf_loadgen.py").write_text("raise ImportError('hidden')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hidden"), *sys.path]))
    given = ["--scenario", "offline", "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(main, ["bench", str(bundles["cpu"]), *given])
    assert shown.exit_code == 4
    assert "pip install 'edgeprune[loadgen]'" in " ".join(shown.stderr.split())


def test_operators_are_kept_and_shown(bundles, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    command = ["bench", str(bundles["cpu"]), "--operators", "--restarts", "1", "--seconds", "0.02", "--out"]
    shown = CliRunner().invoke(main, [*command, str(tmp_path)])
    assert shown.exit_code == 0, shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 100 + len(str(tmp_path))
    assert "of limit %" in shown.stdout
    assert "predicted: nothing, there was no table before" in shown.stdout
    assert (tmp_path / "cpu" / "latency.csv").exists()
    again = CliRunner().invoke(main, [*command, str(tmp_path), "--json"])
    for variant in json.loads(again.stdout):
        assert variant["predicted"]["interpolated"] == 0
        assert len(variant["limits"]) == len(variant["operators"])
        assert sum(one["count"] * one["ms"] for one in variant["operators"]) == pytest.approx(variant["ms"])


def test_operators_of_a_device_that_is_not_here_are_refused_in_one_line(bundles, tmp_path):
    shown = CliRunner().invoke(main, ["bench", str(bundles["jetson"]), "--operators", "--out", str(tmp_path)])
    assert shown.exit_code == 4
    assert "which is not this machine" in " ".join(shown.stderr.split())
