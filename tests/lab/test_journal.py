from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys

import pytest

from edgeprune.errors import CorruptError, OutputError, UnknownNameError
from edgeprune.lab.journal import DONE, FAILED, FILE, QUEUED, RUNNING, Job, Journal
from edgeprune.results import Measured, Measurement

JOBS = [Job(f"pi-{number}", "rpi5", "ab" * 32, "cnn") for number in range(3)]
MEASURED = Measured(
    "ort-fp32",
    "the fastest",
    Measurement("ab" * 32, "cnn", "rpi5", "ort-fp32", "ort", "fp32", 1000, (), samples_ms=((1.5, 2.5),)),
    (),
)


def states(journal, run):
    return [record.state for record in journal.records(run=run)]


def test_what_was_measured_comes_back_with_the_job(tmp_path):
    with Journal(tmp_path) as journal:
        run = journal.begin(JOBS, "")
        assert journal.start(run, JOBS[0])
        journal.finish(run, JOBS[0], MEASURED, 12.5)
        assert journal.start(run, JOBS[1])
        journal.fail(run, JOBS[1], "no room", 1.0)
        first, second, third = journal.measured(run=run)
    assert first[1] == MEASURED
    assert (first[0].state, first[0].attempts, first[0].seconds) == (DONE, 1, 12.5)
    assert (second[0].state, second[0].reason, second[1]) == (FAILED, "no room", None)
    assert third[0].state == QUEUED


def test_the_same_command_goes_on_with_what_was_interrupted_and_repeats_nothing(tmp_path):
    with Journal(tmp_path) as journal:
        run = journal.begin(JOBS, "")
        for job in JOBS:
            journal.start(run, job)
        journal.finish(run, JOBS[0], MEASURED, 1.0)
        journal.fail(run, JOBS[1], "lost", 1.0)
    with Journal(tmp_path) as journal:  # the process before died while the third ran
        assert journal.begin(JOBS[::-1], "") == run
        assert states(journal, run) == [DONE, FAILED, QUEUED]
        assert not journal.start(run, JOBS[0])
        assert not journal.start(run, JOBS[1])
        assert journal.start(run, JOBS[2])


def test_other_jobs_or_settings_and_a_finished_run_are_another_run(tmp_path):
    with Journal(tmp_path) as journal:
        first = journal.begin(JOBS, "")
        journal.end(first)
        numbers = [first, journal.begin(JOBS, ""), journal.begin(JOBS[:2], ""), journal.begin(JOBS, "longer")]
        assert len(set(numbers)) == 4


def test_retry_takes_up_what_failed_and_again_begins_anew(tmp_path):
    with Journal(tmp_path) as journal:
        run = journal.begin(JOBS[:2], "")
        for job in JOBS[:2]:
            journal.start(run, job)
        journal.finish(run, JOBS[0], MEASURED, 1.0)
        journal.fail(run, JOBS[1], "lost", 1.0)
        journal.end(run)
    with Journal(tmp_path) as journal:
        assert journal.begin(JOBS[:2], "", retry=True) == run
        assert states(journal, run) == [DONE, QUEUED]
    with Journal(tmp_path) as journal:
        assert journal.begin(JOBS[:2], "", again=True) == run + 1


def test_a_run_that_another_process_does_is_not_taken_for_interrupted(tmp_path):
    code = (
        "import sys; from pathlib import Path; from edgeprune.lab.journal import Job, Journal\n"
        "journal = Journal(Path(sys.argv[1])); jobs = [Job(f'pi-{n}', 'rpi5', 'ab' * 32, 'cnn') for n in range(3)]\n"
        "print(journal.begin(jobs, ''), flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    other = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=pipe, stdout=pipe, text=True)
    assert other.stdout is not None
    theirs = int(other.stdout.readline())
    with Journal(tmp_path) as journal:
        assert journal.begin(JOBS, "") != theirs
    other.kill()
    other.communicate()
    with Journal(tmp_path) as journal:
        ours = journal.begin(JOBS, "")
        assert ours > theirs  # the last run of the plan is gone on with: our own, which was interrupted, too


def test_a_job_is_done_once_only(tmp_path):
    with Journal(tmp_path) as journal:
        run = journal.begin(JOBS, "")
        journal.start(run, JOBS[0])
        journal.finish(run, JOBS[0], MEASURED, 1.0)
        with pytest.raises(RuntimeError, match="was not running"):
            journal.finish(run, JOBS[0], MEASURED, 1.0)
        assert RUNNING not in states(journal, run)


def test_runs_are_in_order_whatever_the_clock_does(tmp_path):
    clock = itertools.cycle(["2031-01-01T00:00:00+00:00", "1970-01-01T00:00:00+00:00"])
    with Journal(tmp_path, now=lambda: next(clock)) as journal:
        numbers = []
        for _ in range(3):
            numbers.append(journal.begin(JOBS[:1], "", again=True))
            journal.start(numbers[-1], JOBS[0])
            journal.finish(numbers[-1], JOBS[0], MEASURED, 1.0)
            journal.end(numbers[-1])
        assert numbers == sorted(numbers)
        assert [one.id for one in journal.runs()] == numbers
        assert [record.run for record in journal.records(device="pi-0")] == numbers


def test_a_run_that_is_not_there_names_those_that_are(tmp_path):
    with Journal(tmp_path) as journal:
        journal.begin(JOBS, "")
        with pytest.raises(UnknownNameError, match=r"unknown run .* '7': .*known: 1"):
            journal.known(7)


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    (tmp_path / FILE).write_bytes(b"no database at all, " * 100)
    with pytest.raises(CorruptError, match="no journal"):
        Journal(tmp_path)


def test_a_journal_of_another_schema_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(CorruptError, match="schema 99"):
        Journal(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another --out"):
        Journal(tmp_path / "file" / "deeper")


def test_a_damaged_record_is_named(tmp_path):
    with Journal(tmp_path) as journal:
        run = journal.begin(JOBS, "")
        journal.start(run, JOBS[0])
        journal.finish(run, JOBS[0], MEASURED, 1.0)
        with sqlite3.connect(tmp_path / FILE) as db:
            db.execute("UPDATE job SET measured = X'00' WHERE measured IS NOT NULL")
        with pytest.raises(CorruptError, match="damaged"):
            list(journal.measured(run=run))
