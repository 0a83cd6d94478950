"""Hold a device for one collector, and leave nothing behind: started on the device, standard library only.

`python keeper.py WORK HOLDER`. One keeper holds a device at a time; others say `busy HOLDER` and wait. The one that
holds it says `held`, and then obeys a line at a time: `beat` (its collector lives), `clear` (end what runs in the work
folder and remove it, but for `blobs/`, where files lie under their hashes) and `release` (remove all of it and end).
Where the collector dies, or is silent for SILENCE_S, what runs is ended at once; the folder is kept for KEEP_S, so that
a collector that comes back need not send everything again, and then removed unless someone holds the device by then.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import IO

SILENCE_S = 30.0
KEEP_S = 60.0
POLL_S = 0.5
BLOBS = "blobs"


def keep(
    work: Path, holder: str, commands: int, answers: IO[str], *, silence_s: float = SILENCE_S, keep_s: float = KEEP_S
) -> None:
    """Keep the device until told otherwise. `commands` is the descriptor of what is read."""
    work.parent.mkdir(parents=True, exist_ok=True)
    lease = os.open(work.parent / "lease", os.O_RDWR | os.O_CREAT, 0o600)
    lines = _Lines(commands)
    try:
        if not _taken(lease, lines, answers):
            return
        _write(lease, holder)
        end_all(work)
        _clear(work)
        _say(answers, "held")
        while (line := lines.next(silence_s)) not in (None, "release"):
            if line == "clear":
                end_all(work)
                _clear(work)
                _say(answers, "cleared")
        end_all(work)
        if line == "release":
            shutil.rmtree(work, ignore_errors=True)
            _write(lease, "")
            _say(answers, "released")
            return
        fcntl.flock(lease, fcntl.LOCK_UN)
        lines.forget(keep_s)
        if _locked(lease) and os.pread(lease, 4096, 0).decode() == holder:  # nobody held it since
            shutil.rmtree(work, ignore_errors=True)
            _write(lease, "")
    finally:
        os.close(lease)


def end_all(work: Path) -> None:
    """Kill every process of ours that runs in the folder."""
    folder = f"{work.resolve()}/"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            cwd = str((process / "cwd").readlink()).removesuffix(" (deleted)")
            inside = f"{cwd}/".startswith(folder)
            if inside and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # ended meanwhile, or not ours
            continue


def _taken(lease: int, lines: _Lines, answers: IO[str]) -> bool:
    """Wait for the lease; false where the collector went away meanwhile."""
    told = ""
    while not _locked(lease):
        holder = os.pread(lease, 4096, 0).decode(errors="replace").strip() or "another collector"
        if holder != told:
            _say(answers, f"busy {holder}")
            told = holder
        if lines.ended(POLL_S):
            return False
    return True


def _locked(lease: int) -> bool:
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _write(lease: int, holder: str) -> None:
    os.ftruncate(lease, 0)
    os.pwrite(lease, holder.encode(), 0)


def _clear(work: Path) -> None:
    if not work.is_dir():
        return
    for path in work.iterdir():
        if path.name != BLOBS:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _say(answers: IO[str], text: str) -> None:
    answers.write(f"{text}\n")
    answers.flush()


class _Lines:
    """Lines from a descriptor, waited for no longer than said, whatever the clock of the device does."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._read, self._open = descriptor, b"", True

    def next(self, seconds: float) -> str | None:
        """The next line; None at the end, or where none came in time."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._read:
            if not self._open or not self._more(deadline - time.monotonic()):
                return None
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(errors="replace").strip()

    def ended(self, seconds: float) -> bool:
        """Whether the other side is gone, after waiting for that at most so long."""
        self._more(seconds)
        return not self._open

    def forget(self, seconds: float) -> None:
        """Wait so long, whatever is said."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(left)

    def _more(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, seconds))
        if not ready:
            return False
        block = os.read(self._descriptor, 4096)
        self._open = bool(block)
        self._read += block
        return self._open


if __name__ == "__main__":
    keep(Path(sys.argv[1]).absolute(), sys.argv[2], 0, sys.stdout)
