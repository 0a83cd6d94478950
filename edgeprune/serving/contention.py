"""Others on the same processor: processes that do nothing but use it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from types import TracebackType

BUSY = """
import sys, time
begin, end = map(float, sys.argv[1:])
print(flush=True)
sys.stdin.readline()
start = time.monotonic()
time.sleep(begin)
while time.monotonic() < start + end:
    pass
"""


@dataclass(frozen=True)
class Contention:
    """How many processes, and when they work, in seconds from the begin of a trace."""

    begin_s: float
    end_s: float
    processes: int


class Contender:
    """`with Contender(contention) as other: other.start()`: they are up before the trace begins, and gone after it."""

    def __init__(self, contention: Contention | None) -> None:
        self._contention = contention
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Contender:
        if (wanted := self._contention) is not None:
            command = [sys.executable, "-c", BUSY, str(wanted.begin_s), str(wanted.end_s)]
            for _ in range(wanted.processes):
                self._running.append(
                    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
                )
            for process in self._running:
                assert process.stdout is not None
                process.stdout.readline()
        return self

    def start(self) -> None:
        """The trace begins now."""
        for process in self._running:
            assert process.stdin is not None
            process.stdin.write(b"\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running:
            process.kill()
            process.communicate()
