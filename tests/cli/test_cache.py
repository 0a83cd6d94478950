from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgeprune.cache import StageCache
from edgeprune.cli.main import main


def write_kilobyte(folder: Path) -> None:
    (folder / "data").write_bytes(bytes(1000))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> StageCache:
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path))
    made = StageCache(tmp_path)
    for number in range(2):
        made.run("train", {"number": number}, write_kilobyte, code=())
    made.run("lower", {}, write_kilobyte, code=())
    return made


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["cache", *arguments])


def test_sizes_and_ages_are_listed_per_stage(cache):
    found = json.loads(call("ls", "--json").stdout)
    assert found["root"] == str(cache.root)
    assert {one["stage"]: one["count"] for one in found["stages"]} == {"train": 2, "lower": 1}
    assert all(one["size_bytes"] > 1000 and 0 <= one["oldest_days"] < 1 for one in found["stages"])
    assert "train" in call("ls").stdout


def test_cleaning_one_stage_reports_the_bytes_freed(cache):
    found = json.loads(call("clean", "--stage", "train", "--json").stdout)
    assert (found["removed"], found["in_use"]) == (2, 0)
    assert found["freed_bytes"] > 2000
    assert [one["stage"] for one in json.loads(call("ls", "--json").stdout)["stages"]] == ["lower"]


def test_what_was_used_a_moment_ago_is_not_older_than_a_day(cache):
    assert call("clean", "--older", "1").stdout == "0 stages removed, 0 bytes freed\n"


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--stage", "trian"], "did you mean 'train'?"), (["--older", "-1"], "--older")]
)
def test_a_mistake_removes_nothing(cache, arguments, said):
    done = call("clean", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(json.loads(call("ls", "--json").stdout)["stages"]) == 2


def test_a_cache_that_is_not_there_is_empty(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "none"))
    assert json.loads(call("ls", "--json").stdout)["stages"] == []
    assert call("clean").exit_code == 0
