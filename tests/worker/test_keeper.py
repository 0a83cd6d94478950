from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgeprune.worker.keeper import end_all, keep


@pytest.fixture
def keeper(tmp_path):
    """A keeper in a thread: what it is told goes into the pipe, what it says into the list."""
    work, opened = tmp_path / "base" / "work", []

    def keeper(holder="me", silence_s=20.0, keep_s=0.0):
        read, write = os.pipe()
        said = io.StringIO()
        thread = threading.Thread(
            target=keep, args=(work, holder, read, said), kwargs={"silence_s": silence_s, "keep_s": keep_s}, daemon=True
        )
        thread.start()
        opened.append(write)
        return write, said, thread

    keeper.work = work
    yield keeper
    for write in opened:
        try:
            os.close(write)
        except OSError:
            continue


def until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def filled(work):
    for name in ("blobs/x", "job/y", "z"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("")


def test_what_lies_there_from_before_goes_but_what_is_under_its_hash(keeper):
    filled(keeper.work)
    _, said, _ = keeper()
    until(lambda: said.getvalue() == "held\n")
    assert [path.name for path in keeper.work.iterdir()] == ["blobs"]


def test_told_to_release_it_removes_everything(keeper):
    write, said, thread = keeper()
    until(lambda: said.getvalue())
    filled(keeper.work)
    os.write(write, b"beat\nclear\nbe")
    until(lambda: "cleared" in said.getvalue())
    assert (keeper.work / "blobs" / "x").exists()
    os.write(write, b"at\nrelease\n")
    thread.join(5)
    assert said.getvalue() == "held\ncleared\nreleased\n"
    assert not keeper.work.exists()


def test_a_collector_that_is_silent_has_lost_the_device(keeper):
    _, said, thread = keeper("silent", silence_s=0.2, keep_s=2.0)
    until(lambda: said.getvalue())
    filled(keeper.work)
    _, other, _ = keeper("other")
    until(lambda: "busy silent" in other.getvalue())
    until(lambda: "held" in other.getvalue())
    thread.join(5)
    assert (keeper.work / "blobs" / "x").exists()  # it is the other's by now


def test_what_a_dead_collector_left_goes_where_nobody_comes(keeper):
    write, said, thread = keeper("dead", keep_s=0.1)
    until(lambda: said.getvalue())
    filled(keeper.work)
    os.close(write)
    thread.join(5)
    assert not keeper.work.exists()
    assert (keeper.work.parent / "lease").read_bytes() == b""


def test_one_that_waits_goes_when_its_collector_does(keeper):
    _, first, _ = keeper("first")
    until(lambda: first.getvalue())
    write, second, thread = keeper("second")
    until(lambda: second.getvalue() == "busy first\n")
    os.close(write)
    thread.join(5)
    assert not thread.is_alive()


def test_only_what_runs_in_the_folder_is_ended(tmp_path):
    (tmp_path / "work" / "deep").mkdir(parents=True)
    (tmp_path / "workshop").mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    inside = [subprocess.Popen(command, cwd=tmp_path / name) for name in ("work", "work/deep")]
    outside = subprocess.Popen(command, cwd=tmp_path / "workshop")
    try:
        end_all(tmp_path / "work")
        assert [process.wait(5) for process in inside] == [-9, -9]
        assert outside.poll() is None
    finally:
        outside.kill()
        outside.wait()


def test_the_source_alone_is_the_program(tmp_path):
    source = (Path(__file__).parents[2] / "edgeprune" / "worker" / "keeper.py").read_text()
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-c", source, "work", "me"], input="release\n", cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "held\nreleased\n"
    assert not (tmp_path / "work").exists()
