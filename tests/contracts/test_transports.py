"""Every way to a device passes this: this machine, a real SSH server on it, and a simulated device."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeprune.errors import DeviceError
from edgeprune.lab.lease import Lease
from edgeprune.lab.package import write_package
from edgeprune.transport.local import LocalTransport
from edgeprune.transport.simulated import Behaviour, SimulatedTransport
from edgeprune.transport.ssh import SshTransport
from edgeprune.transport.transport import PACKAGE, WORK, Transport
from edgeprune.worker.client import Client
from tests.sshd import Server, serving

NAMES = ("a.npz", "deep/folder/a.npz", 'with space/it\'s $HOME `id` "quoted";&|.npz', "-rf.npz", "ünï.npz", "a\nb.npz")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("package") / PACKAGE)


@pytest.fixture(params=["local", "ssh", "simulated"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Transport]]:
    """Makes ways to one and the same device."""
    made: list[Transport] = []
    base = tmp_path / "the device's folder"

    def make() -> Transport:
        if request.param == "local":
            made.append(LocalTransport(base=base))
        elif request.param == "ssh":
            host = request.getfixturevalue("server").host()
            made.append(SshTransport(host, python=sys.executable, base=str(base)))
        else:
            made.append(SimulatedTransport("one", Behaviour(), base))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_what_was_pushed_comes_back_whatever_it_is_called(make, tmp_path):
    transport = make()
    for name in NAMES:
        (tmp_path / "one").write_bytes(os.urandom(200_000) + b"\x00\xff\r\n")
        transport.push(tmp_path / "one", name)
        transport.pull(name, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == (tmp_path / "one").read_bytes()


def test_a_file_is_replaced_and_one_without_content_is_a_file(make, tmp_path):
    transport = make()
    for content in (b"first", b"", b"third"):
        (tmp_path / "one").write_bytes(content)
        transport.push(tmp_path / "one", "x.npz")
        transport.pull("x.npz", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content


def test_a_folder_comes_back_with_all_that_is_in_it(make, tmp_path):
    transport = make()
    for name in ("check/a.npz", "check/deep/b.npz", "other.npz"):
        (tmp_path / "one").write_bytes(name.encode())
        transport.push(tmp_path / "one", name)
    transport.pull_folder("check", tmp_path / "back")
    found = {path.relative_to(tmp_path / "back").as_posix() for path in (tmp_path / "back").rglob("*.npz")}
    assert found == {"a.npz", "deep/b.npz"}
    assert (tmp_path / "back" / "deep" / "b.npz").read_bytes() == b"check/deep/b.npz"


def test_a_file_that_is_not_there_is_a_device_error_and_leaves_nothing(make, tmp_path):
    with pytest.raises(DeviceError):
        make().pull("nowhere.npz", tmp_path / "back")
    assert not list(tmp_path.glob("back*"))


def test_no_path_leads_out_of_the_devices_folder(make, tmp_path):
    (tmp_path / "one").write_bytes(b"x")
    transport = make()
    for name in ("/etc/passwd", "../outside", "a/../../b"):
        with pytest.raises(ValueError, match="leads out"):
            transport.push(tmp_path / "one", name)


def test_a_worker_answers_and_ends_with_its_input(make, package):
    transport = make()
    transport.push(package, PACKAGE)
    with Client(transport, "ort-int8") as client:
        assert client.ask("probe")["environment"]["cores"] >= 1
        client.send("close")
        client.send("prepare", backend="ort")
        assert client.receive() == {}
    process = transport.start([transport.python, "-m", "edgeprune.worker"])
    process.stdin.close()
    assert process.wait(30) == 0


def test_closing_ends_what_runs_and_then_it_is_of_no_use(make, package, tmp_path):
    transport = make()
    transport.push(package, PACKAGE)
    process = transport.start([transport.python, "-m", "edgeprune.worker"])
    threading.Timer(0.2, transport.close).start()
    assert process.stdout.readline() == ""
    process.wait(30)
    transport.close()
    (tmp_path / "one").write_bytes(b"x")
    with pytest.raises(DeviceError, match="closed"):
        transport.start([transport.python, "-m", "edgeprune.worker"])


def test_a_device_is_one_collectors_at_a_time_and_then_the_others(make):
    said: list[str] = []
    with Lease(make(), "one"):
        with pytest.raises(DeviceError, match=r"one: in use by \S+@\S+, process \d+, since"), Lease(make(), "one"):
            pass
        got = threading.Event()

        def wait() -> None:
            with Lease(make(), "one", wait_s=30, waiting=said.append):
                got.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        deadline = time.monotonic() + 30
        while not said:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not got.is_set()
    assert got.wait(30)
    waiting.join()
    assert "in use by" in said[0]


def test_nothing_stays_on_a_device_after_the_lease(make, package, tmp_path):
    transport = make()
    with Lease(transport, "one") as lease:
        transport.push(package, PACKAGE)
        lease.clear()
        with pytest.raises(DeviceError):
            transport.pull(PACKAGE, tmp_path / "back")
        transport.push(package, PACKAGE)
        base = Path(transport.base)
    assert [path.name for path in base.iterdir()] == ["lease"]
    assert (base / "lease").read_bytes() == b""


def test_a_process_that_hangs_on_the_device_ends_with_the_lease(make, package):
    transport = make()
    if isinstance(transport, SimulatedTransport):
        pytest.skip("a simulated device runs no processes")
    with Lease(transport, "one") as lease:
        program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
        pids = []
        for end in (lease.clear, None):
            process = transport.start([transport.python, "-c", program])
            pids.append(int(process.stdout.readline()))
            assert Path(f"/proc/{pids[-1]}").exists()
            if end:
                end()
                assert ended(pids[-1])
    assert all(ended(pid) for pid in pids)


def test_a_device_is_free_and_clean_soon_after_its_collector_was_killed(make, tmp_path, package):
    transport = make()
    if isinstance(transport, SimulatedTransport):
        pytest.skip("a simulated device lives in the process of its collector")
    code = (
        "import sys, time; from pathlib import Path\n"
        "from edgeprune.transport.ssh import Host, SshTransport\n"
        "from edgeprune.transport.local import LocalTransport\n"
        f"from edgeprune.lab.lease import Lease\n{making(transport)}\n"
        f"lease = Lease(t, 'one'); lease.__enter__(); t.push(Path({str(package)!r}), {PACKAGE!r})\n"
        "p = t.start([t.python, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'])\n"
        "print(p.stdout.readline(), flush=True); time.sleep(600)"
    )
    collector = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert collector.stdout is not None
    pid = int(collector.stdout.readline())
    collector.kill()
    collector.wait()
    assert ended(pid, seconds=20)
    with Lease(transport, "one", wait_s=20):
        names = {path.name for path in (Path(transport.base) / WORK).iterdir()}
        assert names <= {"blobs"}


def making(transport: Transport) -> str:
    if isinstance(transport, SshTransport):
        host = transport._host
        return (
            f"t = SshTransport(Host({host.address!r}, port={host.port}, key=Path({str(host.key)!r}),"
            f" config=Path({str(host.config)!r})), python={transport.python!r}, base={transport.base!r})"
        )
    return f"t = LocalTransport(base=Path({transport.base!r}))"


def ended(pid: int, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
