from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeprune.cli.main import main
from edgeprune.serving.trace import read_trace


@pytest.fixture(autouse=True)
def any_rung_will_do(monkeypatch):
    """So small a network is not faster in INT8."""
    monkeypatch.setattr("edgeprune.serving.session.FASTER", 1e3)


def serve(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["serve", *map(str, arguments)])


def short_trace(tmp_path, name="load.csv", rows=60):
    path = tmp_path / name
    path.write_text("arrival_s,class\n" + "".join(f"{i / 200},{'audit' if i % 10 == 0 else ''}\n" for i in range(rows)))
    return path


def test_a_trace_is_served_and_all_of_it_kept(bundles, tmp_path):
    out = tmp_path / "out"
    done = serve(
        bundles["cpu"], "--trace", short_trace(tmp_path), "--floor", "audit=fp32", "--policy", "fixed:int8",
        "--deadline-ms", 50, "--metrics-port", 0, "--contention", "0.05:0.15:1", "--out", out, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["runs"]) == ["fixed fp32", "fixed int8", "fixed:int8 (hold 50)"]
    assert found["runs"]["fixed:int8 (hold 50)"]["shares"] == {"fp32": 0.1, "int8": 0.9}
    assert {path.name for path in out.iterdir()} == {f"load.{end}" for end in ("json", "jsonl", "csv", "html", "prom")}
    assert json.loads((out / "load.json").read_text()) == found
    rows = [json.loads(line) for line in (out / "load.jsonl").read_text().splitlines()]
    assert {row["run"] for row in rows} == set(found["runs"])
    assert sum(row["served"] for row in rows) == 3 * 60
    np.testing.assert_array_equal(read_trace(out / "load.csv").arrivals_s, np.arange(60) / 200)
    assert 'edgeprune_requests_total{precision="int8"} 54' in (out / "load.prom").read_text()
    page = (out / "load.html").read_text()
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_table_says_what_was_missed_and_served(bundles, tmp_path):
    done = serve(bundles["cpu"], "--trace", "step", "--phase-seconds", 0.005, "--out", tmp_path / "out", "-q")
    assert done.exit_code == 0, done.stderr
    assert "its oracle" in done.stdout
    assert "in memory: fp32" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--trace", "stepp"), 2, "did you mean 'step'?"),
        (("--trace", "gone.csv"), 2, "gone.csv: cannot be read as CSV: No such file"),
        (("--trace", "step", "--deadline-ms", "0.0001"), 3, "no variant meets a deadline of 0.0001 ms"),
        (("--trace", "step", "--precision", "int8"), 2, "two variants of different precision are needed"),
        (("--trace", "step", "--precision", "int7"), 2, "did you mean 'int8'?"),
        (("--trace", "step", "--floor", "audit"), 2, "write CLASS=PRECISION"),
        (("--trace", "step", "--floor", "audit=int7"), 2, "did you mean 'int8'?"),
        (("--trace", "step", "--policy", "acuracy"), 2, "did you mean 'accuracy'?"),
        (("--trace", "step", "--policy", "no.py:f"), 2, "no.py: no such file"),
        (("--trace", "step", "--contention", "5"), 2, "write BEGIN:END"),
        (("--trace", "step", "--contention", "5:4"), 2, "end after that"),
        (("--trace", "step", "--memory-mb", "0.001"), 3, "MiB of memory"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(bundles, arguments, code, said):
    done = serve(bundles["cpu"], *arguments)
    assert done.exit_code == code, done.output
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_too_many_misses_end_with_three_and_all_is_kept(bundles, tmp_path):
    done = serve(
        bundles["cpu"], "--trace", short_trace(tmp_path), "--policy", "fixed:fp32", "--deadline-ms", 1000,
        "--max-missed", 0, "--out", tmp_path / "a", "-q",
    )  # fmt: skip
    assert done.exit_code == 0
    crowd = tmp_path / "crowd.csv"
    crowd.write_text("arrival_s\n" + "0\n" * 300)
    done = serve(
        bundles["cpu"], "--trace", crowd, "--policy", "fixed:fp32", "--deadline-ms", 1, "--max-missed", 10,
        "--out", tmp_path / "b", "-q",
    )  # fmt: skip
    assert done.exit_code == 3
    assert "of the requests missed their deadline, 10 % allowed" in done.stderr
    assert (tmp_path / "b" / "crowd.json").is_file()
