"""Any meter that a command can read: it prints `seconds watts`, a line per reading, as long as it runs.

    EDGEPRUNE_METER='my-wattmeter --port /dev/ttyUSB0' edgeprune bench build/cnn-cpu

Seconds are those of the command's own clock, from any beginning.
"""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import threading
import time

from edgeprune.errors import MissingError

VARIABLE = "EDGEPRUNE_METER"
FIRST_S = 10.0
"""How long the first reading may take."""
SILENT_S, SILENCES = 2.0, 3
"""How long none may come later: so many seconds, or so many times the longest wait so far."""


class CommandMeter:
    """The readings of a child process, summed over its own time by the trapezoidal rule."""

    sampling_hz: float | None = None

    def __init__(self, command: str | None = None, first_s: float = FIRST_S, silent_s: float = SILENT_S) -> None:
        given = command if command is not None else os.environ.get(VARIABLE, "")
        if not given.strip():
            raise MissingError(f"external meter: {VARIABLE} names no command that prints `seconds watts`")
        try:
            words = shlex.split(given)
        except ValueError as error:
            raise MissingError(f"external meter: {VARIABLE} is no command line ({error}): {given:.60}") from error
        self.sensor = f"external meter {words[0]}"
        try:
            self._child = subprocess.Popen(
                words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, errors="replace"
            )
        except OSError as error:
            raise MissingError(f"{self.sensor}: cannot be started ({error.strerror})") from error
        self._first_s, self._silent_s = first_s, silent_s
        self._joules, self._readings, self._fault = 0.0, 0, ""
        self._span_s = 0.0
        self._last: tuple[float, float] | None = None
        self._came_s, self._longest_s = time.monotonic(), 0.0
        self._came = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="edgeprune-meter", daemon=True)
        self._thread.start()
        if not self._came.wait(first_s) or self._last is None:
            fault = self._fault or f"printed nothing in {first_s:g} s"
            self.close()
            raise MissingError(f"{self.sensor}: {fault}")

    def energy_j(self) -> float:
        """Joules up to the newest reading.

        Raises MissingError where the command ended, fell silent or printed something else.
        """
        if self._fault:
            raise MissingError(f"{self.sensor}: {self._fault} (while measuring)")
        silent_s = time.monotonic() - self._came_s
        if silent_s > (max(self._silent_s, SILENCES * self._longest_s) if self._readings > 1 else self._first_s):
            raise MissingError(f"{self.sensor}: printed nothing for {silent_s:.1f} s (while measuring)")
        if self._readings > 1 and self._span_s > 0:
            self.sampling_hz = (self._readings - 1) / self._span_s
        return self._joules

    def close(self) -> None:
        """End the command."""
        self._child.terminate()
        try:
            self._child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._thread.join()
        if self._child.stdout is not None:
            self._child.stdout.close()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            try:
                seconds, watts = map(float, line.split())
            except ValueError:
                self._fault = f"printed {line.strip()!r:.40}, not `seconds watts`"
                break
            if not (math.isfinite(seconds) and math.isfinite(watts)):
                self._fault = f"printed {line.strip()!r:.40}, not two finite numbers"
                break
            self._add(seconds, watts)
            self._came.set()
        self._fault = self._fault or f"ended with {self._exit_code()}"
        self._came.set()

    def _add(self, seconds: float, watts: float) -> None:
        if self._last is not None:
            before_s, before_w = self._last
            if seconds < before_s:
                self._fault = f"its clock went back from {before_s:g} to {seconds:g} s"
                return
            self._joules += (before_w + watts) / 2 * (seconds - before_s)
            self._span_s += seconds - before_s
            self._longest_s = max(self._longest_s, time.monotonic() - self._came_s)
        self._last, self._came_s = (seconds, watts), time.monotonic()
        self._readings += 1

    def _exit_code(self) -> int | None:
        time.sleep(0.05)  # the pipe closes a moment before the process is gone
        return self._child.poll()
