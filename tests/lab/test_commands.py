from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgeprune.cli.main import main
from tests.lab.conftest import simulated


@pytest.fixture
def lab(lab_of, tmp_path, monkeypatch):
    """Two devices, one of which fails, in the folder that is worked in."""
    lab_of(simulated("good", tags=["desk"]), simulated("bad", "full"), groups={"all": ["desk", "bad"]})
    monkeypatch.chdir(tmp_path)


def run(*words):
    return CliRunner().invoke(main, ["lab", *map(str, words)])


def test_devices_are_listed_with_their_tags_and_groups(lab):
    shown = run("list")
    assert shown.exit_code == 0, shown.stderr
    assert "good" in shown.stdout
    assert "desk" in shown.stdout
    named = json.loads(run("list", "--devices", "desk", "--json").stdout)
    assert [device["name"] for device in named] == ["good"]


def test_collecting_writes_all_rows_and_then_ends_with_5_where_a_device_failed(lab, bundle):
    shown = run("collect", bundle.root, "-q")
    assert shown.exit_code == 5
    assert "| bad | tiny | - | bad: its disk is full" in shown.stdout
    assert "| good | tiny | ort-fp32 | not reported: simulated |" in shown.stdout
    assert "1 of 2 jobs failed; the first: bad: " in shown.stderr


def test_what_was_collected_is_a_table_in_every_format(lab, bundle, tmp_path):
    assert run("collect", bundle.root, "--devices", "desk", "-q").exit_code == 0
    assert run("collect", bundle.root, "--devices", "desk", "-q").exit_code == 0
    for name in ("t.md", "t.csv", "t.parquet", "t.json"):
        shown = run("table", "-o", tmp_path / name)
        assert shown.exit_code == 0, shown.stderr
        assert (tmp_path / name).stat().st_size > 100
    assert [row["run"] for row in json.loads(run("table", "--device", "good", "--json").stdout)] == [1, 1, 2, 2]
    assert "run 2: " in run("table", "--runs").stdout
    assert "nothing has changed since run 1" in run("table", "--since", "1").stdout
    assert CliRunner().invoke(main, ["report", "lab_results", "-o", str(tmp_path / "r.html")]).exit_code == 0
    assert "tiny" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("table",), "nothing collected here"),
        (("table", "--since", "1", "--run", "1"), "give it alone"),
        (("collect", "{bundle}", "--again", "--retry"), "give one of them"),
        (("collect", "{bundle}", "--data", "x"), "have no effect without --eval"),
        (("collect", "{bundle}", "--devices", "goood"), "did you mean 'good'"),
        (("collect", "nowhere"), "no bundle here"),
        (("list", "--lab", "other.yaml"), "no inventory here"),
        (("operators", "--device", "goad", "--for", "{bundle}"), "did you mean 'good'"),
    ],
)
def test_what_makes_no_sense_is_one_line(lab, bundle, words, said):
    shown = run(*(word.format(bundle=bundle.root) for word in words))
    assert shown.exit_code == 2
    assert said in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.stderr


def test_parquet_needs_a_file(lab, bundle):
    run("collect", bundle.root, "--devices", "desk", "-q")
    shown = run("table", "--format", "parquet")
    assert (shown.exit_code, "say where with -o FILE" in shown.stderr) == (2, True)


def test_checking_ends_with_5_where_a_device_cannot_be_measured_on(lab_of, tmp_path, monkeypatch):
    lab_of({"name": "here", "transport": "local"}, {"name": "odd", "transport": "local", "python": "/nowhere/python"})
    monkeypatch.chdir(tmp_path)
    shown = run("check", "-q")
    assert shown.exit_code == 5
    assert "here: ready" in shown.stdout
    assert "odd: faulty" in shown.stdout
    assert "1 of 2 devices cannot be measured on: odd" in shown.stderr
