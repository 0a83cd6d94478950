from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgeprune.cli.main import main


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "photos"], "--data photos: {bundle} was made with digits, which is found by its name"),
        (["--metric", "score.py:fn"], "--metric score.py:fn: {bundle} is judged by top1"),
        (["--compare", "{bundle}", "--metric", "score.py:fn"], "--metric has no effect with --compare"),
        (["--operators", "--metric", "score.py:fn"], "--metric has no effect with --operators"),
        (["--operators", "--resume"], "--resume has no effect with --operators"),
        (["--compare", "{bundle}", "--data", "photos"], "--data photos: {bundle} was made with digits"),
    ],
)
def test_an_option_that_says_where_nothing_is_looked_for_is_refused_in_one_line(bundles, tmp_path, options, said):
    bundle = str(bundles["cpu"])
    given = [one.format(bundle=bundle) for one in options]
    shown = CliRunner().invoke(main, ["bench", bundle, "--out", str(tmp_path), *given])
    assert shown.exit_code == 2
    assert said.format(bundle=bundle) in " ".join(shown.stderr.split())


def test_operators_are_kept_and_shown(bundles, tmp_path):
    command = ["bench", str(bundles["cpu"]), "--operators", "--restarts", "1", "--seconds", "0.1", "--out"]
    shown = CliRunner().invoke(main, [*command, str(tmp_path)])
    assert shown.exit_code == 0, shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 100 + len(str(tmp_path))
    assert "predicted: nothing, there was no table before" in shown.stdout
    assert (tmp_path / "cpu" / "latency.csv").exists()
    again = CliRunner().invoke(main, [*command, str(tmp_path), "--json"])
    for variant in json.loads(again.stdout):
        assert variant["predicted"]["interpolated"] == 0
        assert sum(one["count"] * one["ms"] for one in variant["operators"]) == pytest.approx(variant["ms"])


def test_operators_of_a_device_that_is_not_here_are_refused_in_one_line(bundles, tmp_path):
    shown = CliRunner().invoke(main, ["bench", str(bundles["jetson"]), "--operators", "--out", str(tmp_path)])
    assert shown.exit_code == 4
    assert "which is not this machine" in " ".join(shown.stderr.split())
