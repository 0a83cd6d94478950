"""A device held for one collector: nobody else's job runs on it meanwhile, and nothing of ours stays after."""

from __future__ import annotations

import contextlib
import getpass
import inspect
import os
import platform
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from types import TracebackType

from edgeprune.errors import BusyError, DeviceError
from edgeprune.transport.transport import WORK, Process, Transport
from edgeprune.worker import keeper

BEAT_S = 5.0
ENDING_S = 10.0
AGAIN_S = 2.0
"""Between two attempts where the way to a device is not free."""


class Lease:
    """Taken in a `with`. A keeper on the device holds it, so that collectors on any host respect each other."""

    def __init__(
        self, transport: Transport, name: str, *, wait_s: float = 0.0, waiting: Callable[[str], None] = lambda _: None
    ) -> None:
        self._transport, self._name = transport, name
        self._wait_s, self._waiting = wait_s, waiting
        self._process: Process | None = None
        self._done = threading.Event()
        self._writing = threading.Lock()

    def __enter__(self) -> Lease:
        """Wait for the lease, at most `wait_s`. Raises BusyError where another holds it still."""
        self._process = self._start()
        try:
            self._await(self._process)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def _start(self) -> Process:
        """A keeper there, once the way to it is free."""
        words = ["-c", inspect.getsource(keeper), WORK, who(datetime.now(timezone.utc))]
        deadline, told = time.monotonic() + self._wait_s, ""
        while True:
            try:
                # outside: whoever holds the device ends what runs in its work folder, at any moment
                return self._transport.start([self._transport.python, *words], outside=True)
            except BusyError as error:
                if time.monotonic() >= deadline:
                    raise
                if str(error) != told:
                    self._waiting(told := str(error))
            time.sleep(AGAIN_S)

    def _await(self, process: Process) -> None:
        """Until it is held; the time begins when another is found to hold it."""
        expired = threading.Timer(self._wait_s, process.kill)
        expired.daemon = True
        busy = ""
        try:
            while (line := self._line()) != "held":
                if not line and busy:
                    raise BusyError(f"{self._name}: {busy}")
                if not line:
                    raise DeviceError(f"{self._name}: {self._last_words()}")
                if not line.startswith("busy "):
                    raise DeviceError(f"{self._name}: its keeper said {line[:80]!r}, which is no answer")
                if not busy:
                    expired.start()
                busy = f"in use by {line.removeprefix('busy ')}: wait, or end that"
                self._waiting(busy)
        finally:
            expired.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove everything from the device and let others have it."""
        self._done.set()
        process = self._process
        assert process is not None
        ending = threading.Timer(ENDING_S, process.kill)
        ending.start()
        try:
            with contextlib.suppress(DeviceError):
                self._say("release")
                self._line()
        finally:
            ending.cancel()
            process.kill()
            process.wait()

    def clear(self) -> None:
        """End whatever still runs there, and remove all but what lies under its hash."""
        self._say("clear")
        if (line := self._line()) != "cleared":
            raise DeviceError(f"{self._name}: its keeper said {line[:80]!r}: {self._last_words()}")

    def _beat(self) -> None:
        while not self._done.wait(BEAT_S):
            with contextlib.suppress(DeviceError):
                self._say("beat")

    def _say(self, text: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            with self._writing:
                self._process.stdin.write(f"{text}\n")
                self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise DeviceError(f"{self._name}: the lease was lost: {self._last_words()}") from error

    def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline(4096).strip()

    def _last_words(self) -> str:
        assert self._process is not None
        assert self._process.stderr is not None
        if self._process.poll() is None:
            return "no answer"
        lines = [line.strip() for line in self._process.stderr.read(65536).splitlines() if line.strip()]
        return lines[-1][:200] if lines else "the connection failed or was lost"


def who(now: datetime) -> str:
    """Who holds it, for whoever finds it held."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        user = str(os.getuid())
    return f"{user}@{platform.node()}, process {os.getpid()}, since {now.isoformat(timespec='seconds')}"
