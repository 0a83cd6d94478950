"""The seam to a device: files there and back, and processes on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol


class Process(Protocol):
    """A process there, as `subprocess.Popen[str]` is one here."""

    @property
    def stdin(self) -> IO[str] | None:
        """What it reads."""
        ...

    @property
    def stdout(self) -> IO[str] | None:
        """What it answers."""
        ...

    @property
    def stderr(self) -> IO[str] | None:
        """What it says beside."""
        ...

    def poll(self) -> int | None:
        """How it ended; None where it has not."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and say how. Raises subprocess.TimeoutExpired."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...


class Transport(Protocol):
    """A way to one device. Remote paths are relative to a folder of its own there, in which processes start.

    Where another has the device now, BusyError is raised; what else cannot be done raises DeviceError where it may be
    done in the next minute, as after a lost connection, and MissingError where somebody must do something first.
    """

    python: str
    """The interpreter there that has NumPy and the runtimes."""
    base: str
    """The folder there in which that folder of its own, `WORK`, lies; relative to where processes start or absolute."""

    def push(self, local: Path, remote: str) -> None:
        """Copy a file there, making folders as needed; it appears whole or not at all."""
        ...

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file back; it appears whole or not at all."""
        ...

    def pull_folder(self, remote: str, local: Path) -> None:
        """Copy all files of a folder back into one that is made here."""
        ...

    def start(self, argv: Sequence[str], *, outside: bool = False) -> Process:
        """Start a process there; its three streams are text pipes here, and it ends when its stdin is closed.

        `outside` is in `base`, where whoever takes the device's lease lets it live.
        """
        ...

    def close(self) -> None:
        """End whatever runs through this, at once; it is of no use any more. Any thread may do so, more than once."""
        ...


WORK = "work"
"""The folder on a device that holds what a job needs, and is removed after it."""
PACKAGE = "edgeprune.pyz"
"""What processes there import of EdgePrune; where the transport brings none itself, it must be pushed first."""


def refuse_outside(remote: str) -> str:
    """The path itself. Raises ValueError where it leads out of the folder on the device."""
    if remote.startswith("/") or ".." in remote.split("/") or "\0" in remote:
        raise ValueError(f"{remote!r} leads out of the device's folder")
    return remote
