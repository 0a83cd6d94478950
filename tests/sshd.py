"""An SSH server of our own on a free port of this machine, with keys that are thrown away."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeprune.transport.ssh import Host


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """Keys, and where it listens."""

    folder: Path
    address: str
    port: int

    @property
    def config(self) -> Path:
        """A client's configuration, which knows the server's key."""
        return self.folder / "config"

    def host(self) -> Host:
        return Host(self.address, port=self.port, key=self.folder / "user", config=self.config)


def make_keys(folder: Path, address: str, port: int) -> Server:
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    public = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[{address}]:{port} {public}\n")
    (folder / "config").write_text(
        f"UserKnownHostsFile {folder}/known\nGlobalKnownHostsFile /dev/null\nUser {os.environ.get('USER', 'root')}\n"
    )
    return Server(folder, address, port)


@contextmanager
def serving(
    folder: Path, *, address: str = "127.0.0.1", before: Sequence[str] = (), root: Path = Path("/")
) -> Iterator[Server]:
    """Run a server; `before` are words in front of it, as `ip netns exec NAME`; `root` is what it sees as `/`."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("no sshd here: apt-get install openssh-server")
    seen = Path("/") / folder.relative_to(root)
    folder.mkdir(parents=True, exist_ok=True)
    server = make_keys(folder, address, free_port())
    (root / "run/sshd").mkdir(exist_ok=True)
    lines = [
        f"Port {server.port}", f"ListenAddress {address}", f"HostKey {seen}/host", "PidFile none",
        f"AuthorizedKeysFile {seen}/authorized", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
        "UsePAM no", "StrictModes no", "PermitRootLogin yes", "Subsystem sftp internal-sftp",
    ]  # fmt: skip
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    log = (folder / "log").open("w")
    process = subprocess.Popen([*before, program, "-D", "-e", "-f", str(seen / "sshd_config")], stderr=log)
    try:
        _await(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def _await(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while "Server listening" not in (server.folder / "log").read_text():
        assert process.poll() is None, (server.folder / "log").read_text()
        assert time.monotonic() < deadline, (server.folder / "log").read_text()
        time.sleep(0.02)


@contextmanager
def cut_after(count: int, port: int) -> Iterator[tuple[int, list[int]]]:
    """A way to a port; each connection breaks once `count` bytes went up through it. The list counts them."""
    listener = socket.create_server(("127.0.0.1", 0))
    sent: list[int] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                down, _ = listener.accept()
                sent.append(0)
                threading.Thread(target=between, args=(down, len(sent) - 1), daemon=True).start()

    def between(down: socket.socket, number: int) -> None:
        with down, socket.create_connection(("127.0.0.1", port)) as up, suppress(OSError):
            while True:
                ready, _, _ = select.select([down, up], [], [], 30)
                for one in ready:
                    block = one.recv(4096)
                    if one is down:
                        block = block[: max(0, count - sent[number])]
                        sent[number] += len(block)
                    if not block:
                        return
                    (up if one is down else down).sendall(block)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], sent
    finally:
        listener.close()
