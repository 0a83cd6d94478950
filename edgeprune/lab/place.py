"""A device that a labgrid coordinator lends: a place, which is acquired, reached over SSH, and released.

All is asked of labgrid's own client, which finds its coordinator by LG_COORDINATOR (labgrid.readthedocs.io).
"""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from edgeprune.errors import BusyError, DeviceError, EdgePruneError, MissingError
from edgeprune.transport.ssh import SAFE, Host, SshTransport

_log = logging.getLogger(__name__)

CLIENT = "labgrid-client"
ANSWER_S = 60.0
SERVICE = "NetworkService"
OURS = "You have already acquired place {place}."
"""What its client says where this user on this host has it: another collector, or somebody by hand."""
TAKEN = re.compile(r"already acquired (?:by|place \S+ on) (\S+?)\.? ")


class PlaceTransport:
    """SSH to where the place's NetworkService is, while the place is ours; it is acquired on the first use.

    Until it is free, each use raises BusyError. What another program of this user had acquired before is used with it,
    and not released here.
    """

    def __init__(self, place: str, host: Host, *, python: str, base: str) -> None:
        self.python, self.base = python, base
        self._place, self._host = place, host
        self._way: SshTransport | None = None
        self._acquired = False
        self._lock = threading.Lock()
        self._closed = False

    def push(self, local: Path, remote: str) -> None:
        """Copy a file there."""
        self._reached().push(local, remote)

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file back."""
        self._reached().pull(remote, local)

    def pull_folder(self, remote: str, local: Path) -> None:
        """Copy all files of a folder back."""
        self._reached().pull_folder(remote, local)

    def start(self, argv: Sequence[str], *, outside: bool = False) -> subprocess.Popen[str]:
        """Start a process there."""
        return self._reached().start(argv, outside=outside)

    def close(self) -> None:
        """End the connection, and let others have the place."""
        self._closed = True
        with self._lock:
            way, acquired = self._way, self._acquired
            self._acquired = False
            if way is not None:
                way.close()
            if acquired:
                self._release()

    def _reached(self) -> SshTransport:
        with self._lock:
            if self._way is None:
                if self._closed:
                    raise DeviceError(f"{self._place}: the connection was closed")
                self._acquire()
                try:
                    host = self._at(self._ask("env"))
                except BaseException:
                    if self._acquired:
                        self._release()
                    self._acquired = False
                    raise
                self._way = SshTransport(host, python=self.python, base=self.base)
            return self._way

    def _acquire(self) -> None:
        done = self._ask("acquire")
        if done.returncode == 0:
            self._acquired = True
        elif OURS.format(place=self._place) not in done.stderr:
            raise self._explained(done.stderr)

    def _release(self) -> None:
        try:
            done = self._ask("release")
        except EdgePruneError as error:
            _log.warning("%s; it may still be ours", error)
            return
        if done.returncode:
            _log.warning("%s; it may still be ours", self._explained(done.stderr))

    def _at(self, done: subprocess.CompletedProcess[str]) -> Host:
        """Where its NetworkService is; what the inventory says of user, port and key counts more."""
        if done.returncode:
            raise self._explained(done.stderr)
        try:
            (target,) = yaml.safe_load(done.stdout)["targets"].values()
            (found,) = (one[SERVICE] for one in _entries(target["resources"]) if SERVICE in one)
            address, user, port = str(found["address"]), str(found["username"]), int(found.get("port", 22))
        except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise MissingError(
                f"place {self._place}: it has not one {SERVICE} to reach it by: add one to its exporter's file"
            ) from error
        if not re.fullmatch(SAFE, address) or not re.fullmatch(SAFE, user):
            raise MissingError(f"place {self._place}: its {SERVICE} is no address and user that ssh takes")
        return replace(self._host, address=address, user=self._host.user or user, port=self._host.port or port)

    def _explained(self, said: str) -> DeviceError | MissingError:
        if taken := TAKEN.search(said):
            return BusyError(f"place {self._place}: in use by {taken[1]}: wait, or ask for it to be released")
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no word")
        told = f"place {self._place}: {CLIENT}: {last.rpartition('Error: ')[2][:200]}"
        if "connect to coordinator" in said:
            return DeviceError(f"{told}: start the coordinator, or say by LG_COORDINATOR where it is")
        return MissingError(f"{told}: `{CLIENT} places` and `{CLIENT} -p {self._place} show` say what is there")

    def _ask(self, command: str) -> subprocess.CompletedProcess[str]:
        program = shutil.which(CLIENT) or shutil.which(CLIENT, path=str(Path(sys.executable).parent))
        if program is None:
            raise MissingError(f"no `{CLIENT}` on the path: pip install labgrid")
        try:
            return subprocess.run(
                [program, "-p", self._place, command],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_S, check=False,
                start_new_session=True,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeviceError(f"place {self._place}: {CLIENT} {command}: {error}") from error


def _entries(resources: Any) -> list[dict[str, Any]]:
    """Labgrid writes a list, or one mapping where no name comes twice."""
    return resources if isinstance(resources, list) else [{name: one} for name, one in resources.items()]
