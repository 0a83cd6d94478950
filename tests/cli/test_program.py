from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import click
import pytest

from edgeprune import errors
from edgeprune.cli.program import Program

SLEEPING = """
import time, click
from edgeprune.cli.program import Program
Program("sleep", callback=lambda: print("go", flush=True) or time.sleep(60)).main([])
"""
CLEANING = """
import time, click
from edgeprune.cli.program import Program
def work():
    try:
        print("go", flush=True)
        time.sleep(60)
    finally:
        time.sleep(0.2)
        print("cleaned", flush=True)
Program("work", callback=work).main([])
"""


def ending(end: Callable[[], object]) -> int:
    with pytest.raises(SystemExit) as caught:
        Program("program", callback=end).main([])
    return int(caught.value.code or 0)


def raising(error: BaseException) -> Callable[[], object]:
    def end() -> None:
        raise error

    return end


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DataError("a"), 2),
        (errors.BudgetError("a"), 3),
        (errors.MissingError("a"), 4),
        (errors.DeviceError("a"), 5),
        (errors.FallbackError("a"), 6),
    ],
)
def test_an_error_ends_with_its_own_code(capsys, error, code):
    assert ending(raising(error)) == code
    assert capsys.readouterr().err == "error: a\n"


def test_a_message_of_many_lines_becomes_one(capsys):
    ending(raising(errors.ModelError("first\n  second")))
    assert capsys.readouterr().err == "error: first second\n"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "error: out.json: no space left on device: make room\n"),
        (errno.EROFS, "error: out.json: read-only file system: write elsewhere\n"),
        (errno.EACCES, "error: out.json: permission denied: check its permissions\n"),
    ],
)
def test_a_place_that_cannot_be_written_is_no_bug(capsys, number, said):
    assert ending(raising(OSError(number, os.strerror(number), "out.json"))) == 2
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), FileNotFoundError(errno.ENOENT, "gone", "f"), KeyError("k")])
def test_a_bug_shows_its_traceback_and_asks_for_a_report(capsys, error):
    assert ending(raising(error)) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert type(error).__name__ in shown
    assert "please report" in shown


def test_an_interrupt_ends_with_130_and_says_so(capsys):
    assert ending(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.strip() == "error: interrupted"


def test_a_real_interrupt_leaves_no_traceback():
    run = subprocess.Popen([sys.executable, "-c", SLEEPING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "go\n"
    run.send_signal(signal.SIGINT)
    _, shown = run.communicate(timeout=10)
    assert run.returncode == 130
    assert "Traceback" not in shown


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_that_stops_cleans_up_as_an_interrupt_does(number, code):
    run = subprocess.Popen([sys.executable, "-c", CLEANING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "go\n"
    run.send_signal(number)
    run.send_signal(number)
    shown, told = run.communicate(timeout=10)
    assert run.returncode == code
    assert shown == "cleaned\n"
    assert told.strip() == f"error: stopped by {number.name}"


def test_an_interrupt_in_the_middle_of_an_exec_ends_with_130_too():
    inside = SLEEPING.replace("time.sleep(60)", "exec('time.sleep(60)')")
    run = subprocess.Popen([sys.executable, "-c", inside], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "go\n"
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=10)
    assert run.returncode == 130


def test_a_signal_that_is_ignored_stays_so():
    hanging_up = "import os, signal, time\n" + SLEEPING.replace("time.sleep(60)", "os.kill(os.getpid(), signal.SIGHUP)")
    run = subprocess.run(["nohup", sys.executable, "-c", hanging_up], capture_output=True, text=True, check=False)
    assert run.returncode == 0


def test_success_ends_with_nought(capsys):
    assert ending(lambda: None) == 0
    assert capsys.readouterr().err == ""


def test_letters_that_stdout_cannot_show_are_replaced():
    code = "from edgeprune.cli.program import Program\n"
    code += "Program('show', callback=lambda: print('3 µs')).main([])"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"3 ?s\n", b"")


def test_output_to_a_stream_without_descriptor_works(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert ending(lambda: click.echo("x")) == 0
