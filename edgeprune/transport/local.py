"""The machine we run on as the device: a folder and child processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeprune.errors import DeviceError, MissingError
from edgeprune.transport.transport import WORK, refuse_outside
from edgeprune.whole_file import whole

PACKAGE_ROOT = Path(__file__).parents[2]


class LocalTransport:
    """Files are copied to a folder that goes away with this object, unless `base` names one to be used."""

    def __init__(self, python: str = sys.executable, base: Path | None = None) -> None:
        self.python = python
        self._folder = None if base else tempfile.TemporaryDirectory(prefix="edgeprune-")
        self.base = str(base or self._folder.name)  # type: ignore[union-attr]
        self._root = Path(self.base) / WORK
        self._started: list[subprocess.Popen[str]] = []
        self._closed = False

    def push(self, local: Path, remote: str) -> None:
        """Copy a file into the folder."""
        goal = self._place(remote)
        goal.parent.mkdir(parents=True, exist_ok=True)
        _copy(local, goal)

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file out of the folder."""
        _copy(self._place(remote), local)

    def pull_folder(self, remote: str, local: Path) -> None:
        """Copy all files of a folder out of it; links are not followed, for they could lead anywhere."""
        source = self._place(remote)
        local.mkdir(parents=True, exist_ok=True)
        for path in sorted(source.rglob("*")):
            goal = local / path.relative_to(source)
            if path.is_symlink():
                raise DeviceError(f"{path}: a link: refused")
            goal.mkdir(parents=True, exist_ok=True) if path.is_dir() else shutil.copyfile(path, goal)

    def start(self, argv: Sequence[str], *, outside: bool = False) -> subprocess.Popen[str]:
        """Start a child in the folder, with this EdgePrune on its path.

        It gets a session of its own, so that Ctrl-C reaches us alone and we end it in order.
        """
        if self._closed:
            raise DeviceError("this machine: the transport is closed")
        self._root.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                cwd=self.base if outside else self._root,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,
            )
        except OSError as error:
            raise MissingError(f"this machine: {argv[0]}: cannot be run ({error.strerror})") from error
        self._started = [*(one for one in self._started if one.poll() is None), process]
        return process

    def close(self) -> None:
        """Kill the children; a folder that was not given is removed."""
        self._closed = True
        for process in self._started:
            process.kill()
        if self._folder is not None:
            self._folder.cleanup()

    def _place(self, remote: str) -> Path:
        return self._root / refuse_outside(remote)


def _copy(source: Path, goal: Path) -> None:
    try:
        with whole(goal) as partial:
            shutil.copyfile(source, partial)
    except FileNotFoundError as error:
        raise DeviceError(f"{source}: not there") from error
