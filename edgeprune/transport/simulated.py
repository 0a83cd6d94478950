"""A device that is none: it answers as a worker would, or fails as devices do, and says that it is simulated.

For trying out a lab of a thousand devices, and for tests of what drives them. No number of it is a measurement.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.errors import DeviceError, MissingError
from edgeprune.transport.transport import WORK, refuse_outside

KINDS = ("healthy", "fails", "hangs", "garbage", "cut", "full")
KEPT = ".npz"
"""Files that are kept, for they may be asked for again; of others the size is enough."""


@dataclass(frozen=True)
class Behaviour:
    """What it does."""

    kind: str = "healthy"
    """One of KINDS: `fails` refuses to open a model, `hangs` gives no answer, `garbage` answers nonsense, `cut` loses
    the connection in the middle, `full` has no room.
    """
    ms: float = 1.0
    """What an inference seems to take."""
    seed: int = 0


class SimulatedTransport:
    """`base` is a folder here, in which the device's lease lies."""

    def __init__(self, name: str, behaviour: Behaviour, base: Path) -> None:
        self.python, self.base = "python3", str(base)
        self._name, self._behaviour = name, behaviour
        self._random = random.Random(f"{behaviour.seed} {name}")
        self._files: dict[str, bytes] = {}
        self._started: list[SimulatedProcess] = []
        self._closed = False

    def push(self, local: Path, remote: str) -> None:
        """Remember a file."""
        self._check()
        if self._behaviour.kind == "full":
            raise MissingError(f"{self._name}: its disk is full: make room there")
        self._files[refuse_outside(remote)] = local.read_bytes() if remote.endswith(KEPT) else b""

    def pull(self, remote: str, local: Path) -> None:
        """Give back a file that was pushed."""
        self._check()
        if remote not in self._files:
            raise DeviceError(f"{self._name}: {remote}: not there")
        local.write_bytes(self._files[remote])

    def pull_folder(self, remote: str, local: Path) -> None:
        """Give back the files of a folder that were pushed."""
        self._check()
        local.mkdir(parents=True, exist_ok=True)
        for name in [name for name in self._files if name.startswith(f"{remote}/")]:
            goal = local / Path(name).relative_to(remote)
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.write_bytes(self._files[name])

    def start(self, argv: Sequence[str], *, outside: bool = False) -> SimulatedProcess:
        """Start a worker, or, outside, a keeper."""
        self._check()
        run = self._keep(argv[-1]) if outside else self._work
        process = SimulatedProcess(run)
        self._started = [*(one for one in self._started if one.poll() is None), process]
        return process

    def close(self) -> None:
        """End it."""
        self._closed = True
        for process in self._started:
            process.kill()

    def _check(self) -> None:
        if self._closed:
            raise DeviceError(f"{self._name}: the connection was closed")

    def _keep(self, holder: str) -> Callable[[SimulatedProcess], int]:
        """Hold the lease as the keeper does: with a lock on a file, which no two hold."""
        base = Path(self.base)

        def run(process: SimulatedProcess) -> int:
            base.mkdir(parents=True, exist_ok=True)
            lease = os.open(base / "lease", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                told = ""
                while not _locked(lease):
                    if (other := os.pread(lease, 4096, 0).decode()) != told:
                        process.stdout.write(f"busy {other}\n")
                        told = other
                    if process.stdin.closes_within(0.1):
                        return 0
                os.ftruncate(lease, 0)
                os.pwrite(lease, holder.encode(), 0)
                process.stdout.write("held\n")
                while (line := process.stdin.readline().strip()) not in ("", "release"):
                    if line == "clear":
                        self._files.clear()
                        process.stdout.write("cleared\n")
                os.ftruncate(lease, 0)
                shutil.rmtree(base / WORK, ignore_errors=True)
                process.stdout.write("released\n")
                return 0
            finally:
                os.close(lease)

        return run

    def _work(self, process: SimulatedProcess) -> int:
        """Answer commands as `edgeprune.worker` does."""
        kind, told = self._behaviour.kind, 0
        while line := process.stdin.readline():
            fields = json.loads(line)
            told += 1
            if kind == "garbage":
                process.stdout.write(f"\x00\ufffd{self._random.random()} Segmentation fault?\n")
                continue
            if kind == "hangs" and process.stdin.closes_within(float("inf")):
                return 1
            if kind == "cut" and told > 4:
                process.stderr.write("client_loop: send disconnect: Broken pipe\n")
                return 255
            answer = self._answer(**fields)
            if kind == "fails" and fields["command"] == "open":
                answer = {"ok": False, "error": "DeviceError", "message": f"{self._name}: simulated failure"}
            process.stdout.write(json.dumps(answer) + "\n")
            if fields["command"] == "quit":
                break
        return 0

    def _answer(self, command: str, **fields: Any) -> dict[str, Any]:
        ms = self._behaviour.ms
        if command == "time":
            runs = max(int(fields["least"]), min(int(fields["most"]), int(1000 * fields["seconds"] / ms)))
            samples = [round(ms * self._random.lognormvariate(0, 0.05), 6) for _ in range(runs)]
            seconds = sum(samples) / 1e3
            return {"ok": True, "samples_ms": samples, "cpu_s": seconds, "wall_s": seconds}
        answers: Mapping[str, Any] = {
            "probe": {"environment": _environment()},
            "open": {"load_ms": 3 * ms, "mark_lowered": True},
            "warm": {"first_inference_ms": 2 * ms, "runs": 10, "seconds": ms / 100, "stable": True},
            "check": {"snr_db": {"simulated": 100.0}, "finite": True},
            "evidence": {"evidence": {"nodes": [], "version": "simulated", "hint": "f32"}},
            "memory": {"peak_bytes": 0, "import_bytes": 0},
            "energy": {"energy": {"joules": None, "sensor": None, "reason": "simulated"}},
        }
        if command in ("predict", "profile"):
            return {"ok": False, "error": "MissingError", "message": f"{self._name}: simulated: it computes nothing"}
        return {"ok": True, **answers.get(command, {})}


class SimulatedProcess:
    """A thread with three pipes."""

    def __init__(self, run: Callable[[SimulatedProcess], int]) -> None:
        self.stdin: Any = Pipe()
        self.stdout: Any = Pipe()
        self.stderr: Any = Pipe()
        self.returncode: int | None = None
        self._run = run
        self._thread = threading.Thread(target=self._body, daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        """How it ended."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise subprocess.TimeoutExpired("simulated", timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        """End it: it reads nothing more, and what it says nobody hears."""
        if self._thread.is_alive():
            for pipe in (self.stdin, self.stdout, self.stderr):
                pipe.close()

    def _body(self) -> None:
        code = -9
        try:
            code = self._run(self)
        except ValueError:  # a pipe was closed: it was killed
            pass
        finally:
            self.returncode = code
            self.stdout.end()
            self.stderr.end()


class Pipe(io.TextIOBase):
    """Lines from one thread to another, of which each may close it."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._changed = threading.Condition()
        self._ended = False

    def write(self, text: str) -> int:
        """Put a whole line in."""
        with self._changed:
            if self._ended:
                raise ValueError("the pipe is closed")
            self._lines.append(text)
            self._changed.notify_all()
        return len(text)

    def readline(self, limit: int = -1, /) -> str:  # type: ignore[override]
        """The next line, empty at the end."""
        with self._changed:
            while not self._lines and not self._ended:
                self._changed.wait()
            line = self._lines.popleft() if self._lines else ""
            if 0 <= limit < len(line):
                self._lines.appendleft(line[limit:])
                return line[:limit]
            return line

    def read(self, limit: int | None = -1, /) -> str:
        """All that is to come."""
        return "".join(iter(self.readline, ""))

    def closes_within(self, seconds: float) -> bool:
        """Whether the other side closes it in that time."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._ended and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, 3600.0))
            return self._ended

    def end(self) -> None:
        """Nothing more comes; what is in it can still be read."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more comes."""
        self.end()


def _locked(lease: int) -> bool:
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _environment() -> dict[str, Any]:
    return {
        "machine": "simulated",
        "arch": "simulated",
        "isa": [],
        "cores": 1,
        "memory_bytes": 0,
        "os": "simulated",
        "python": "simulated",
        "versions": {},
        "emulated": True,
    }
