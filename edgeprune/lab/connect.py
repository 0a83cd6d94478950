"""From a device of the inventory to a transport, and from a transport to a device that is ready for a job."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from edgeprune.doctor import SHARED_FOLDERS
from edgeprune.errors import DeviceError, MissingError
from edgeprune.lab.inventory import Device, Instance
from edgeprune.lab.lease import Lease
from edgeprune.lab.package import write_package
from edgeprune.lab.place import PlaceTransport
from edgeprune.targets.target import JETPACK
from edgeprune.transport.local import LocalTransport
from edgeprune.transport.simulated import Behaviour, SimulatedTransport
from edgeprune.transport.ssh import BASE, Host, SshTransport
from edgeprune.transport.transport import PACKAGE, Transport

OLDEST_PYTHON = (3, 10)
OLDEST_JETSON_LINUX = 36
"""That of JetPack 6."""
FIRST_WORDS = """
import json, sys
from importlib import metadata
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
try:
    with open("/etc/nv_tegra_release") as file:
        release = file.readline()
except OSError:
    release = ""
print(json.dumps({"python": sys.version_info[:3], "found": found, "jetson": release}))
"""
"""Runs on any Python 3.8, with names of packages."""
ASKED = tuple(dict.fromkeys(("numpy", "openvino", "tensorrt", *chain.from_iterable(SHARED_FOLDERS.values()))))
"""Those that are asked for: where two lie in one folder, only one of them runs."""
ANSWER_S = 60.0
DEVICES = ".devices"
"""In the folder of a lab's results, where devices lie that are in this machine."""


def transport(device: Device, state: Path) -> Transport:
    """A way to it, not opened yet; `state` is where devices lie that are in this machine."""
    if device.transport in ("ssh", "labgrid"):
        host = Host(device.address, device.user, device.port, device.key, device.ssh_config)
        python, folder = device.python, device.folder or BASE
        if device.transport == "labgrid":
            return PlaceTransport(device.place or device.name, host, python=python, base=folder)
        return SshTransport(host, python=python, base=folder)
    base = Path(device.folder) if device.folder else state / device.name
    if device.transport == "local":
        return LocalTransport(base=base) if device.python == "python3" else LocalTransport(device.python, base)
    simulated = device.simulated
    return SimulatedTransport(device.name, Behaviour(simulated.kind, simulated.ms, simulated.seed), base)


@contextlib.contextmanager
def held(
    instance: Instance, way: Transport, *, wait_s: float = 0.0, waiting: Callable[[str], None] = lambda _: None
) -> Iterator[Lease]:
    """A device that is ours alone, with EdgePrune on it; then the way to it is closed.

    Raises DeviceError where another has it after `wait_s`.
    """
    try:
        with Lease(way, instance.name, wait_s=wait_s, waiting=waiting) as lease:
            ready(instance, way)
            yield lease
    finally:
        way.close()


@contextlib.contextmanager
def limited(way: Transport, name: str, seconds: float) -> Iterator[None]:
    """Close the way where what is done in the block takes longer: raises DeviceError that says so."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        way.close()

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    except DeviceError as error:
        if expired.is_set():
            raise DeviceError(f"{name}: not done in {seconds:g} s, which is the time limit") from error
        raise
    finally:
        timer.cancel()


def ready(instance: Instance, way: Transport) -> dict[str, str]:
    """Send what a worker imports; say which packages are there, by name.

    Raises MissingError where its JetPack or Python is too old, or NumPy is not there.
    """
    if instance.device.transport == "simulated":
        return {}
    found = first_words(instance, way)
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        way.push(write_package(Path(folder) / PACKAGE), PACKAGE)
    return found


def first_words(instance: Instance, way: Transport) -> dict[str, str]:
    """Which packages are there. Raises MissingError as `ready` does."""
    answer = said(instance, way, ["-c", FIRST_WORDS, *ASKED])
    release = re.match(r"# R(\d+) ", answer.get("jetson", ""))
    if release is not None and int(release[1]) < OLDEST_JETSON_LINUX:
        raise MissingError(f"{instance.name}: it runs Jetson Linux {release[1]}. {JETPACK}")
    python = ".".join(map(str, answer["python"]))
    if tuple(answer["python"]) < OLDEST_PYTHON:
        raise MissingError(
            f"{instance.name}: {way.python} is Python {python}, 3.10 is the oldest: name another with `python:`"
        )
    found: dict[str, str] = {"python": python, **answer["found"]}
    if "numpy" not in found:
        raise MissingError(f"{instance.name}: no NumPy there: run `{way.python} -m pip install numpy` on it")
    return found


def said(instance: Instance, way: Transport, words: list[str]) -> dict[str, Any]:
    """The JSON object that Python says there. Raises DeviceError where it says something else, MissingError without."""
    process = way.start([way.python, *words])
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    timer = threading.Timer(ANSWER_S, process.kill)
    timer.start()
    try:
        with contextlib.suppress(OSError):
            process.stdin.close()
        out, err = process.stdout.read(1 << 20), process.stderr.read(1 << 16)
        code = process.wait(ANSWER_S)
    finally:
        timer.cancel()
        process.kill()
    if code in (126, 127):
        raise MissingError(f"{instance.name}: no {way.python} there: install Python 3.10, or name it with `python:`")
    try:
        answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        last = next((line for line in reversed(f"{out}\n{err}".splitlines()) if line.strip()), f"exit code {code}")
        raise DeviceError(f"{instance.name}: its Python said {last.strip()[:100]!r}, which is no answer") from error
    return answer
