"""The machine we run on as the device: a temporary folder and child processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGE_ROOT = Path(__file__).parents[2]


class LocalTransport:
    """Files are copied to a folder that goes away with this object."""

    def __init__(self, python: str = sys.executable) -> None:
        self.python = python
        self._folder = tempfile.TemporaryDirectory(prefix="edgeprune-")
        self._root = Path(self._folder.name)

    def push(self, local: Path, remote: str) -> None:
        """Copy a file into the folder."""
        goal = self._root / remote
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(local, goal)

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file out of the folder."""
        shutil.copyfile(self._root / remote, local)

    def start(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Start a child in the folder, with this EdgePrune on its path.

        It gets a session of its own, so that Ctrl-C reaches us alone and we end it in order.
        """
        path = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._root,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )
