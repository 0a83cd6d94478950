from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace

import pytest
from pyarrow import parquet

from edgeprune.errors import OutputError
from edgeprune.lab.journal import Job, Journal
from edgeprune.lab.tables import COLUMNS, Row, changes, latest, rows, to_csv, to_markdown, write_parquet
from edgeprune.metrics import wilson
from edgeprune.results import Accuracy, Energy, Environment, Layer, Measured, Measurement

ENVIRONMENT = Environment("A board", "aarch64", (), 4, 0, "Linux", "3.10", {"onnxruntime": "1.23.2"})
LAYERS = (Layer("conv1", "Conv", "int8", "int8"), Layer("fc", "Gemm", "int8", "fp32", "no kernel"))


def measurement(variant="ort-int8", ms=2.0, source="measured", **more):
    runs = tuple(tuple(ms * (1 + 0.001 * (restart + i / 200)) for i in range(200)) for restart in range(6))
    fields = {
        "bundle": "ab" * 32, "model": "cnn", "target": "rpi5", "variant": variant, "backend": "ort",
        "precision": "int8", "size_bytes": 4200, "samples_ms": runs, "peak_memory_bytes": 3_000_000,
        "energy": Energy(0.004, "INA", ""), "layers": LAYERS, "environment": ENVIRONMENT,
        "accuracy": (Accuracy("top1", "report", 300, wilson(270, 300), None, source),),
        "measured_at": "2026-11-20T10:00:00+00:00",
    }  # fmt: skip
    return Measurement(**{**fields, **more})


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path) as journal:
        yield journal


def collected(journal, **by_device):
    """A run in which each device measured this, or failed for a reason."""
    jobs = {name: Job(name.replace("_", "-"), "rpi5", "ab" * 32, "cnn") for name in by_device}
    run = journal.begin(list(jobs.values()), "", again=True)
    for name, job in jobs.items():
        journal.start(run, job)
        if isinstance(by_device[name], str):
            journal.fail(run, job, by_device[name], 1.0)
        else:
            journal.finish(run, job, Measured("ort-int8", "", by_device[name], ()), 1.0)
    journal.end(run)
    return run


def test_a_row_holds_what_was_measured_in_its_units(journal):
    run = collected(journal, pi_1=measurement())
    (row,) = rows(journal)
    assert (row.run, row.device, row.target, row.model, row.variant) == (run, "pi-1", "rpi5", "cnn", "ort-int8")
    assert row.p50_ms == pytest.approx(2.006, rel=1e-3)
    assert row.p50_low_ms is not None
    assert row.p50_low_ms < row.p50_ms < row.p50_high_ms
    assert row.p99_ms is not None
    assert (row.memory_mb, row.energy_mj, row.size_kb, row.accuracy) == (3.0, 4.0, 4.2, pytest.approx(0.9))
    assert (row.precision, row.fallbacks, row.runtime) == ("int8 1, fp32 1", 1, "ort 1.23.2")
    assert row.judged_on == "device"


def test_a_row_says_who_answered_the_samples(journal):
    collected(journal, pi_1=measurement(source="measured on the host"), pi_2=measurement(accuracy=()))
    assert [row.judged_on for row in rows(journal)] == ["host", ""]


def test_a_device_that_failed_is_a_row_with_the_reason(journal):
    collected(journal, pi_1="its disk is full", pi_2=measurement())
    failed, measured = rows(journal)
    assert (failed.state, failed.latency, failed.variant) == ("its disk is full", "its disk is full", "")
    assert measured.state == "measured"


def test_an_emulated_device_has_no_latency_and_says_why(journal):
    emulated = replace(ENVIRONMENT, emulated=True)
    collected(journal, pi_1=measurement(samples_ms=(), unmeasured="emulated", environment=emulated))
    (row,) = rows(journal)
    assert row.emulated
    assert row.latency == "not reported: emulated"
    assert "| not reported: emulated |" in to_markdown([row])


def test_the_latest_of_each_is_shown_and_no_failure_hides_a_measurement(journal):
    collected(journal, pi_1=measurement(ms=1.0), pi_2="lost", pi_3="lost")
    collected(journal, pi_1=measurement(ms=2.0), pi_2=measurement())
    last = collected(journal, pi_2="lost again")
    found = latest(rows(journal))
    assert [(row.device, row.run, row.state) for row in found] == [
        ("pi-1", last - 1, "measured"),
        ("pi-2", last - 1, "measured"),
        ("pi-2", last, "lost again"),
        ("pi-3", last - 2, "lost"),
    ]


def test_a_device_has_a_history(journal):
    for ms in (1.0, 2.0, 3.0):
        collected(journal, pi_1=measurement(ms=ms), pi_2=measurement())
    history = list(rows(journal, device="pi-1"))
    assert [round(row.p50_ms) for row in history] == [1, 2, 3]


def test_changes_are_told_where_they_can_be_told(journal):
    first = collected(journal, pi_1=measurement(ms=2.0), pi_2=measurement(), pi_3=measurement())
    newer = replace(ENVIRONMENT, versions={"onnxruntime": "1.31.1"})
    collected(
        journal,
        pi_1=measurement(ms=1.0, environment=newer),
        pi_2=measurement(ms=2.0001, accuracy=(Accuracy("top1", "report", 100, wilson(90, 100), None, "measured"),)),
        pi_3="lost",
    )
    found = changes(list(rows(journal, run=first)), latest(row for row in rows(journal) if row.run > first))
    assert [(one.device, one.what) for one in found] == [
        ("pi-1", "p50 ms"),
        ("pi-1", "runtime"),
        ("pi-2", "judged by"),
        ("pi-3", "row"),
        ("pi-3", "row"),
    ]
    assert found[0].after.endswith("(0.50x)")
    assert (found[1].before, found[1].after) == ("ort 1.23.2", "ort 1.31.1")


def test_nothing_is_told_where_intervals_meet(journal):
    first = collected(journal, pi_1=measurement(ms=2.0))
    collected(journal, pi_1=measurement(ms=2.003))
    assert changes(list(rows(journal, run=first)), list(rows(journal, run=first + 1))) == []


def test_every_format_holds_every_row(journal, tmp_path):
    collected(journal, pi_1=measurement(), pi_2="a | reason\nof two lines", pi_3=measurement(samples_ms=()))
    found = list(rows(journal))
    lines = to_markdown(found).splitlines()
    assert len(lines) == 2 + 3
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    read = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert [row["device"] for row in read] == ["pi-1", "pi-2", "pi-3"]
    assert float(read[0]["p50_ms"]) == found[0].p50_ms
    write_parquet(found, tmp_path / "table.parquet")
    back = parquet.read_table(tmp_path / "table.parquet").to_pylist()
    assert [Row(**row) for row in back] == found
    assert tuple(back[0]) == COLUMNS
    assert json.loads(json.dumps([asdict(one) for one in found]))[0]["device"] == "pi-1"


def test_a_place_that_cannot_be_written_is_refused(journal, tmp_path):
    with pytest.raises(OutputError, match="choose another -o"):
        write_parquet([], tmp_path / "nowhere" / "table.parquet")
