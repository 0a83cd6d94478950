"""The seam to a device: files there and back, and a process on it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Transport(Protocol):
    """A way to one device. Remote paths are relative to a folder of its own there, in which processes start."""

    python: str
    """The interpreter there that has NumPy and the runtimes."""

    def push(self, local: Path, remote: str) -> None:
        """Copy a file there, making folders as needed."""
        ...

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file back."""
        ...

    def start(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Start a process there; its three streams are text pipes here, and it ends when its stdin is closed."""
        ...
