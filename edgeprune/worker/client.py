"""Talk to one worker, wherever it runs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections import deque
from types import TracebackType
from typing import Any

from edgeprune import errors
from edgeprune.backends import BUILD
from edgeprune.errors import DeviceError, EdgePruneError
from edgeprune.transport.transport import Transport

GRACE_S = 5.0
BUILD_S = 3600.0
"""That opening may take where an engine is built before, once: on a board minutes are usual."""
MOST_LETTERS = 1 << 28
"""Of one answer: more is no answer, and would fill our memory."""


class Client:
    """A worker process and what it said last.

    `name` is what its errors are told under. Used in a `with`, no process outlives the block.
    """

    def __init__(self, transport: Transport, name: str, *, timeout_s: float = 600.0) -> None:
        self.name, self._timeout_s = name, timeout_s
        self._process = transport.start([transport.python, "-m", "edgeprune.worker"])
        self._expired = False
        self._said: deque[str] = deque(maxlen=20)
        # a pipe that nobody empties stops the process that writes to it
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def send(self, command: str, **fields: Any) -> None:
        """Give a command and do not wait."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **fields}) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._ended(f"before `{command}`") from error

    def receive(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The answer to the oldest command that has none yet, waited for as long as the client does or as is said.

        Raises the error that the worker names, and DeviceError where it died, hung or has a bug.
        """
        assert self._process.stdout is not None
        limit_s = timeout_s or self._timeout_s
        watchdog = threading.Timer(limit_s, self._expire)
        watchdog.start()
        try:
            line = self._process.stdout.readline(MOST_LETTERS)
        finally:
            watchdog.cancel()
        if not line:
            raise self._ended("while it worked", limit_s)
        answer = self._parsed(line)
        if answer.pop("ok"):
            return answer
        kind = getattr(errors, answer["error"], None)
        if isinstance(kind, type) and issubclass(kind, EdgePruneError):
            raise kind(answer["message"])
        raise DeviceError(f"{self.name}: the worker failed: {answer['error']}: {answer['message']}")

    def _parsed(self, line: str) -> dict[str, Any]:
        """An answer; what comes from a device may be anything."""
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(line)
            if isinstance(answer, dict) and (
                answer.get("ok") is True or (answer.get("ok") is False and {"error", "message"} <= answer.keys())
            ):
                return {**answer, **({} if answer["ok"] else {"error": str(answer["error"])})}
        self._process.kill()
        raise DeviceError(f"{self.name}: the worker said {line.strip()[:60]!r}, which is no answer")

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.send(command, **fields)
        builds = command == "open" and fields.get("backend") in BUILD
        return self.receive(self._timeout_s + BUILD_S if builds else None)

    def close(self) -> None:
        """Close its input, which ends it; kill it where it does not."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
        finally:
            process.kill()
            process.wait()
            self._listener.join(GRACE_S)
            process.stdout.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()  # it may be in the middle of minutes of work
        self.close()

    def _expire(self) -> None:
        self._expired = True
        self._process.kill()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                if line.strip():
                    self._said.append(line.strip())

    def _ended(self, when: str, limit_s: float = 0.0) -> DeviceError:
        code = self._process.wait()
        self._listener.join(GRACE_S)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if self._expired:
            how, when = "was killed", f"because it gave no answer in {limit_s:g} s"
        last = f": {self._said[-1]}" if self._said else ""
        return DeviceError(f"{self.name}: the worker {how} {when}{last}")
