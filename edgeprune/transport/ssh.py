"""A device behind plain OpenSSH: the user's own configuration, jump hosts, agents and known hosts just work.

One `ssh` is the master of a connection that all others share. It runs `cat` and reads from a pipe of ours, so the
connection ends with us however we end. A host whose key is not known is refused, and nobody is ever asked.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgeprune.errors import DeviceError, MissingError
from edgeprune.file_hash import sha256_of
from edgeprune.transport.archive import MOST_BYTES, unpack
from edgeprune.transport.transport import PACKAGE, WORK, refuse_outside
from edgeprune.whole_file import whole

BASE = ".cache/edgeprune"
"""Below the home of the user there."""
CONNECT_S = 15
SILENT_S = 5
"""After three times that without a sign of life the connection is lost."""
SSH_FAILED = 255
"""What `ssh` itself ends with; all else is the exit code of what ran there."""
READY = "edgeprune-ready"
BLOCK = 1 << 16

REMEDIES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one that is known: somebody may be in between; if it was set up anew, compare the"
        " fingerprint on its console, then remove the old key with `ssh-keygen -R {host}` and add the new one",
    ),
    (
        "Host key verification failed",
        "its host key is not known: compare `ssh-keyscan{port} {host} | ssh-keygen -lf -` with the fingerprint on its"
        " console, then add it: `ssh-keyscan{port} {host} >> ~/.ssh/known_hosts`",
    ),
    ("Permission denied", "it lets us in by no key: `ssh-copy-id{port} {login}`, or name the key in lab.yaml"),
    ("Could not resolve hostname", "no such host: correct `host` in lab.yaml, or your ~/.ssh/config"),
    ("Bad configuration option", "your ssh configuration is wrong: `ssh -G {host}` says where"),
    ("no such identity", "the key in lab.yaml is not there: correct `key`"),
)
"""What ssh says, and what somebody must do before it is worth trying again."""
NO_ROOM = "No space left on device"


@dataclass(frozen=True)
class Host:
    """Where `ssh` goes; what is None is left to the user's own configuration."""

    address: str
    user: str | None = None
    port: int | None = None
    key: Path | None = None
    config: Path | None = None
    """A configuration file in place of ~/.ssh/config."""

    def options(self) -> list[str]:
        """As words of a command line."""
        words = ["-F", str(self.config)] if self.config else []
        words += ["-p", str(self.port)] if self.port else []
        words += ["-l", self.user] if self.user else []
        words += ["-i", str(self.key), "-o", "IdentitiesOnly=yes"] if self.key else []
        fixed = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": CONNECT_S,
            "ServerAliveInterval": SILENT_S,
            "ServerAliveCountMax": 3,
            "ForwardX11": "no",
            "ForwardAgent": "no",
            "ClearAllForwardings": "yes",
            "RequestTTY": "no",
            "LogLevel": "ERROR",
        }
        return [*words, *(word for name, value in fixed.items() for word in ("-o", f"{name}={value}"))]

    def explained(self, said: str) -> DeviceError | MissingError:
        """What ssh said on stderr, as an error that tells what to do."""
        port = f" -p {self.port}" if self.port else ""
        login = f"{self.user}@{self.address}" if self.user else self.address
        for sign, remedy in REMEDIES:
            if sign in said:
                return MissingError(f"{self.address}: {remedy.format(host=self.address, port=port, login=login)}")
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "ssh ended without a word")
        return DeviceError(f"{self.address}: the connection failed or was lost: {last[:200]}")


class SshTransport:
    """Files are pushed under the hash of their content, go on where a lost connection stopped, and lie whole or not.

    The work folder is removed by whoever holds the device's lease, not here. Paths and commands are quoted for a POSIX
    shell.
    """

    def __init__(self, host: Host, *, python: str = "python3", base: str = BASE) -> None:
        self.python, self.base = python, base
        self._host, self._work = host, f"{base}/{WORK}"
        self._folder = Path(tempfile.mkdtemp(prefix="ep-", dir="/tmp"))  # the path of a socket has 100 letters at most
        self._running: set[subprocess.Popen[bytes] | subprocess.Popen[str]] = set()
        self._lock = threading.RLock()
        self._master: subprocess.Popen[bytes] | None = None
        self._closed = False

    def push(self, local: Path, remote: str) -> None:
        """Copy a file there, under its hash; what is there of it already is not sent again."""
        name, size = sha256_of(local), local.stat().st_size
        blob, goal = f"blobs/{name}", shlex.quote(f"./{refuse_outside(remote)}")
        place = f'd={goal}; mkdir -p "${{d%/*}}" && {{ ln -f {blob} {goal} 2>/dev/null || cp -f {blob} {goal}; }}'
        there = self._shell(
            f"mkdir -p blobs; if [ -f {blob} ]; then {place} && echo placed;"
            f" elif [ -f {blob}.partial ]; then wc -c <{blob}.partial; else echo 0; fi"
        ).strip()
        if there == "placed":
            return
        sent = min(int(there), size) if there.isdigit() else 0
        with local.open("rb") as file:
            file.seek(sent)
            self._shell(
                f"cat >>{blob}.partial || exit 74; s=$(sha256sum <{blob}.partial);"
                f' if [ "${{s%% *}}" != {name} ]; then'
                f" rm -f {blob}.partial; echo 'other bytes arrived' >&2; exit 65; fi;"
                f" mv -f {blob}.partial {blob} && {place}",
                stdin=file,
            )

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file back. Raises DeviceError where it is larger than MOST_BYTES."""
        script = f"cat -- {shlex.quote(refuse_outside(remote))}"
        with whole(local) as partial, self._reading(script) as stream, partial.open("wb") as file:
            left = MOST_BYTES
            while block := stream.read(BLOCK):
                left -= len(block)
                if left < 0:
                    raise DeviceError(f"{self._host.address}: {remote}: larger than {MOST_BYTES} bytes: refused")
                file.write(block)

    def pull_folder(self, remote: str, local: Path) -> None:
        """Copy all files of a folder back as one archive, whose members are checked."""
        local.mkdir(parents=True, exist_ok=True)
        with self._reading(f"tar -C {shlex.quote('./' + refuse_outside(remote))} -cf - .") as stream:
            unpack(stream, local)
            while stream.read(BLOCK):  # what stands behind the end of an archive
                pass

    def start(self, argv: Sequence[str], *, outside: bool = False) -> subprocess.Popen[str]:
        """Start a process in the work folder, with what was pushed as PACKAGE to import from."""
        words = " ".join(map(shlex.quote, argv))
        path = f'PYTHONPATH="$PWD/{PACKAGE}${{PYTHONPATH:+:$PYTHONPATH}}" EDGEPRUNE_CACHE="${{PWD%/{WORK}}}/engines"'
        process = subprocess.Popen(
            self._command(f"exec {words}", self.base) if outside else self._command(f"{path} exec {words}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._remember(process)
        return process

    def close(self) -> None:
        """End the connection and all that runs through it."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, set()
            master, self._master = self._master, None
        for process in running:
            process.kill()
        if master is not None:
            assert master.stdin is not None
            with contextlib.suppress(OSError):
                master.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                master.wait(1)
            master.kill()
            master.wait()
            for stream in (master.stdout, master.stderr):
                assert stream is not None
                stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self, script: str, folder: str | None = None) -> list[str]:
        """The words that run a script in a folder, else that of the work, over the shared connection."""
        self._connect()
        place = shlex.quote(folder or self._work)
        inside = f"mkdir -p {place} && cd {place} && {{ {script}; }}"
        shared = ["-o", "ControlMaster=no", "-o", f"ControlPath={self._socket}"]
        return ["ssh", *shared, *self._host.options(), "--", self._host.address, f"exec sh -c {shlex.quote(inside)}"]

    @property
    def _socket(self) -> Path:
        return self._folder / "c"

    def _connect(self) -> None:
        """Open the shared connection, where there is none or it was lost."""
        with self._lock:
            if self._closed:
                raise DeviceError(f"{self._host.address}: the connection was closed")
            if self._master is not None and self._master.poll() is None:
                return
            if self._master is not None:
                said = _rest(self._master.stderr)
                self._master = None
                raise self._host.explained(said)
            if shutil.which("ssh") is None:
                raise MissingError("no `ssh` on the path: install an OpenSSH client")
            self._socket.unlink(missing_ok=True)
            shared = ["-o", "ControlMaster=yes", "-o", f"ControlPath={self._socket}", "-o", "ControlPersist=no"]
            words = ["ssh", *shared, *self._host.options(), "--", self._host.address]
            pipe = subprocess.PIPE
            master = subprocess.Popen(
                [*words, f"echo {READY}; exec cat >/dev/null"],
                stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True,
            )  # fmt: skip
            try:
                self._await(master)
            except BaseException:
                master.kill()
                master.wait()
                raise
            self._master = master

    def _await(self, master: subprocess.Popen[bytes]) -> None:
        assert master.stdout is not None
        said, deadline = b"", time.monotonic() + 2 * CONNECT_S
        while not said.endswith(f"{READY}\n".encode()):
            ready, _, _ = select.select([master.stdout], [], [], max(0.0, deadline - time.monotonic()))
            block = os.read(master.stdout.fileno(), BLOCK) if ready else b""
            said += block
            if not ready:
                raise DeviceError(f"{self._host.address}: no answer in {2 * CONNECT_S} s")
            if not block:
                raise self._host.explained(_rest(master.stderr))
        if noise := said.decode(errors="replace").removesuffix(f"{READY}\n").strip():
            raise MissingError(
                f"{self._host.address}: its shell prints {noise[:60]!r} when it starts, which would pass for an answer:"
                " let its start-up files print nothing where there is no terminal"
            )

    def _shell(self, script: str, stdin: IO[bytes] | None = None) -> str:
        """What a script says, from its beginning to its end."""
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            self._command(script), stdin=stdin or subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
        )
        self._remember(process)
        out, err = process.communicate()
        self._check(process.returncode, err)
        return out.decode(errors="replace")

    @contextlib.contextmanager
    def _reading(self, script: str) -> Iterator[IO[bytes]]:
        """What a script writes, as a stream; that it came to its end is checked behind it."""
        with tempfile.TemporaryFile(dir=self._folder) as errors:
            process = subprocess.Popen(
                self._command(script),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
            )  # fmt: skip
            self._remember(process)
            assert process.stdout is not None
            try:
                yield process.stdout
            except BaseException:
                process.kill()
                raise
            finally:
                process.stdout.close()
                code = process.wait()
                errors.seek(0)
                said = errors.read()
            self._check(code, said)

    def _check(self, code: int, err: bytes) -> None:
        said = err.decode(errors="replace")
        if code == 0:
            return
        if NO_ROOM in said:
            raise MissingError(
                f"{self._host.address}: its disk is full: make room in ~/{self.base} there (`df -h` says where)"
            )
        if code == SSH_FAILED or code < 0:
            raise self._host.explained(said)
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), f"exit code {code}")
        raise DeviceError(f"{self._host.address}: {last[:200]}")

    def _remember(self, process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
        with self._lock:
            self._running = {one for one in self._running if one.poll() is None} | {process}
            closed = self._closed
        if closed:
            process.kill()


def _rest(stream: IO[bytes] | None) -> str:
    return stream.read().decode(errors="replace") if stream is not None else ""


SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%@-]*")
"""Names of hosts and users: none begins with a dash, which ssh would take for an option."""
