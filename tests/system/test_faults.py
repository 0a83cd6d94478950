"""What a careless user does to a compile: full disks, read-only folders, Ctrl-C, kill, a terminal that is closed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


def start(out: Path, cache: Path, temporary: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgeprune", "compile", "--epochs", "3", "--out", str(out)],
        env=os.environ | {"EDGEPRUNE_CACHE": str(cache)} | ({"TMPDIR": str(temporary)} if temporary else {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def compile_(out: Path, cache: Path) -> tuple[int, str]:
    """Exit code and what stands on stderr."""
    run = start(out, cache)
    _, errors = run.communicate(timeout=300)
    return run.returncode, errors


def finished(cache: Path) -> dict[str, int]:
    """Every finished stage and when it was finished."""
    return {str(path): path.stat().st_mtime_ns for path in cache.glob("*/*/stage.json") if path.parent.suffix == ""}


def the_line(errors: str) -> str:
    """The one line that says what went wrong."""
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    return lines[0]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at `folder`."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def warm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which every stage is finished."""
    folder = tmp_path_factory.mktemp("warm")
    code, errors = compile_(folder / "bundle", folder / "cache")
    assert code == 0, errors
    return folder / "cache"


@pytest.mark.parametrize("size_kb", [8, 100, 400, 700])
def test_a_cache_on_a_full_disk_says_which_and_the_way_out(tmp_path: Path, size_kb: int):
    with mounted(tmp_path / "small", f"size={size_kb}k") as small:
        code, errors = compile_(tmp_path / "bundle", small / "cache")
    assert code == 2
    assert "No space left on device" in the_line(errors)
    assert "make room" in the_line(errors)
    assert not (tmp_path / "bundle").exists()


def test_an_output_folder_on_a_full_disk_keeps_nothing_half_written(tmp_path: Path, warm_cache: Path):
    with mounted(tmp_path / "small", "size=300k") as small:
        code, errors = compile_(small / "bundle", warm_cache)
        assert list(small.iterdir()) == []
    assert code == 2
    assert "No space left on device" in the_line(errors)


def test_a_read_only_output_folder_is_refused_before_any_work(tmp_path: Path):
    with mounted(tmp_path / "sealed", "ro") as sealed:
        code, errors = compile_(sealed / "bundle", tmp_path / "cache")
    assert code == 2
    assert "cannot be written (Read-only file system)" in the_line(errors)
    assert not (tmp_path / "cache").exists()


def test_a_read_only_cache_says_how_to_choose_another(tmp_path: Path):
    with mounted(tmp_path / "sealed", "ro") as sealed:
        code, errors = compile_(tmp_path / "bundle", sealed / "cache")
    assert code == 2
    assert "EDGEPRUNE_CACHE=DIR" in the_line(errors)


@pytest.mark.parametrize(
    ("number", "seconds", "code", "said"),
    [
        (signal.SIGINT, 4, 130, "interrupted"),
        (signal.SIGINT, 8, 130, "interrupted"),
        (signal.SIGTERM, 4, 143, "stopped by SIGTERM"),
        (signal.SIGTERM, 8, 143, "stopped by SIGTERM"),
        (signal.SIGHUP, 4, 129, "stopped by SIGHUP"),
    ],
)
def test_a_signal_is_one_line_leaves_nothing_behind_and_loses_no_stage(tmp_path: Path, number, seconds, code, said):
    out, cache = tmp_path / "bundle", tmp_path / "cache"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    run = start(out, cache, temporary)
    time.sleep(seconds)
    workers = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == code, errors
    assert said in the_line(errors)
    assert not list(tmp_path.glob(".bundle*"))
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    assert not list(temporary.glob("edgeprune*"))
    before = finished(cache)
    again, errors = compile_(out, cache)
    assert again == 0, errors
    assert before.items() <= finished(cache).items(), "a finished stage was done again"
