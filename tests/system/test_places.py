"""A device that a labgrid coordinator lends: coordinator, exporter and SSH server are real, on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from edgeprune.errors import BusyError, DeviceError, MissingError
from edgeprune.lab.lease import Lease
from edgeprune.lab.place import CLIENT, PlaceTransport
from edgeprune.transport.ssh import Host
from tests.sshd import Server, free_port, serving

pytestmark = pytest.mark.system
if shutil.which(CLIENT) is None:
    pytest.skip("no labgrid here: pip install labgrid", allow_module_level=True)

PLACE = "board-7"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "sshd") as one:
        yield one


@pytest.fixture
def lent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server as a place of a coordinator that LG_COORDINATOR names."""
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("LG_COORDINATOR", address)
    service = {"address": server.address, "port": server.port, "username": os.environ.get("USER", "root")}
    (tmp_path / "exported.yaml").write_text(yaml.safe_dump({"desk": {"NetworkService": service}}))
    with running("labgrid-coordinator", "-l", address, folder=tmp_path):
        until(lambda: client("places").returncode == 0)
        exporter = ("labgrid-exporter", "-c", address, "--hostname", "localhost", "-n", "here", "exported.yaml")
        with running(*exporter, folder=tmp_path):
            until(lambda: "NetworkService" in client("resources").stdout)
            for words in (("create",), ("add-match", "here/desk/NetworkService")):
                assert client("-p", PLACE, *words).returncode == 0
            yield server


@contextmanager
def running(*words: str, folder: Path) -> Iterator[None]:
    with (folder / f"{words[0]}.log").open("w") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def client(*words: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"LG_USERNAME": user, "LG_HOSTNAME": "elsewhere"} if user else {})
    return subprocess.run([CLIENT, *words], capture_output=True, text=True, check=False, env=environment)


def until(true) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def holder() -> str:
    (line,) = (line for line in client("-p", PLACE, "show").stdout.splitlines() if line.strip().startswith("acquired:"))
    return line.partition(":")[2].strip()


def way_to(server: Server, place: str = PLACE) -> PlaceTransport:
    host = Host(place, key=server.folder / "user", config=server.config)
    return PlaceTransport(place, host, python=sys.executable, base=str(server.folder / "of-place"))


def test_a_place_is_ours_from_the_first_use_to_the_end(lent, tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    way = way_to(lent)
    assert holder() == "None"
    way.push(tmp_path / "a", "deep/a")
    assert holder() != "None"
    way.pull("deep/a", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"content"
    assert way.start(["pwd"], outside=True).communicate()[0].strip() == way.base
    way.close()
    way.close()
    assert holder() == "None"
    with pytest.raises(DeviceError, match="closed"):
        way.push(tmp_path / "a", "a")


def test_what_this_user_has_already_stays_theirs(lent):
    assert client("-p", PLACE, "acquire").returncode == 0
    before = holder()
    way = way_to(lent)
    assert way.start(["true"]).wait() == 0
    way.close()
    assert holder() == before


def test_a_place_that_another_has_is_waited_for(lent):
    assert client("-p", PLACE, "acquire", user="other").returncode == 0
    with pytest.raises(BusyError, match="in use by elsewhere/other"):
        way_to(lent).start(["true"])
    said = []
    threading.Timer(1.0, lambda: client("-p", PLACE, "release", user="other")).start()
    way = way_to(lent)
    with Lease(way, PLACE, wait_s=60, waiting=said.append):
        assert "elsewhere/other" not in holder()
    assert len(said) == 1
    way.close()


def test_what_is_wrong_is_told_with_what_to_do(lent, tmp_path, monkeypatch):
    with pytest.raises(MissingError, match=r"nowhere.*labgrid-client places"):
        way_to(lent, "nowhere").start(["true"])
    assert client("-p", "bare", "create").returncode == 0
    with pytest.raises(MissingError, match="bare: it has not one NetworkService"):
        way_to(lent, "bare").start(["true"])
    assert "acquired: None" in client("-p", "bare", "show").stdout
    monkeypatch.setenv("LG_COORDINATOR", f"127.0.0.1:{free_port()}")
    with pytest.raises(DeviceError, match="LG_COORDINATOR"):
        way_to(lent).start(["true"])


def test_a_lab_collects_from_a_place(lent, bundles, tmp_path):
    device = {
        "name": PLACE, "target": "cpu", "transport": "labgrid", "key": str(lent.folder / "user"),
        "ssh_config": str(lent.config), "python": sys.executable, "folder": str(tmp_path / "of-place"),
    }  # fmt: skip
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump({"devices": [device]}))

    def lab(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edgeprune", "lab", *map(str, words)],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert f"labgrid {PLACE}" in lab("list").stdout
    checked = lab("check")
    assert "ready" in checked.stdout, checked.stderr
    collected = lab("collect", bundles["cpu"], "--restarts", 1)
    assert collected.returncode == 0, collected.stderr
    assert holder() == "None"
    assert client("-p", PLACE, "acquire", user="other").returncode == 0
    taken = lab("check")
    assert "in use" in taken.stdout
    assert "Traceback" not in taken.stderr
