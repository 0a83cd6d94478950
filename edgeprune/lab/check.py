"""Whether a device can be measured on: what is wrong, and how to put it right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.doctor import overwritten
from edgeprune.errors import BusyError, EdgePruneError, MissingError
from edgeprune.lab.connect import first_words, held, said, transport
from edgeprune.lab.inventory import Instance
from edgeprune.results import MB
from edgeprune.transport.transport import Transport

PACKAGES = {
    "ort": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
}
"""What brings a runtime, by its name."""
LEAST_DISK = 500 * MB
LEAST_MEMORY = 200 * MB
BUSY = 1.0
"""Processes that want a core, above which what is measured is disturbed."""
HOT_C = 80.0


@dataclass(frozen=True)
class Health:
    """What was found out about a device."""

    name: str
    target: str
    state: str
    """`ready`, `in use`, or `faulty`."""
    faults: tuple[str, ...] = ()
    """What must be done before anything can be measured."""
    warnings: tuple[str, ...] = ()
    """What makes numbers worse."""
    machine: str = ""
    emulated: bool = False
    versions: dict[str, str] | None = None
    free_disk_bytes: int | None = None
    free_memory_bytes: int | None = None
    power_mode: str = ""
    temperature_c: float | None = None
    meter: str = ""
    """The sensor, or why there is none."""


def check(instance: Instance, state: Path) -> Health:
    """Look at a device, unless somebody measures on it; nothing stays there."""
    try:
        way = transport(instance.device, state)
        with held(instance, way):
            return _examined(instance, way)
    except MissingError as error:
        return Health(instance.name, instance.target.name, "faulty", (str(error),))
    except BusyError as error:
        return Health(instance.name, instance.target.name, "in use", (str(error),))
    except EdgePruneError as error:
        return Health(instance.name, instance.target.name, "faulty", (str(error),))


def _examined(instance: Instance, way: Transport) -> Health:
    if instance.device.transport == "simulated":
        return Health(instance.name, instance.target.name, "ready", machine="simulated", emulated=True)
    packages = first_words(instance, way)
    found = said(instance, way, ["-m", "edgeprune.worker.health", *instance.target.meters])
    environment = found["environment"]
    faults = list(_faults(instance, found, packages, way.python))
    return Health(
        instance.name,
        instance.target.name,
        "faulty" if faults else "ready",
        tuple(faults),
        tuple(_warnings(instance, found, packages)),
        environment["machine"],
        instance.device.emulated or environment["emulated"],
        packages,
        found["free_disk_bytes"],
        found["free_memory_bytes"],
        found["power_mode"],
        environment["temperature_c"],
        found["meter"] or f"none: {found['no_meter']}",
    )


def _faults(instance: Instance, found: dict[str, Any], packages: dict[str, str], python: str) -> Iterator[str]:
    target, environment = instance.target, found["environment"]
    if target.arch not in ("any", environment["arch"]):
        yield f"it is {environment['arch']}, but {target.name} is {target.arch}: name the right `target` in lab.yaml"
    if not any(package in packages for backend in target.backends for package in PACKAGES[backend]):
        wanted = PACKAGES[next(iter(target.backends))][0]
        how = "comes with JetPack" if wanted == "tensorrt" else f"`{python} -m pip install {wanted}` on it"
        yield f"none of its runtimes ({', '.join(target.backends)}) is installed: {how}"
    if found["free_disk_bytes"] < LEAST_DISK:
        yield f"{found['free_disk_bytes'] // MB} MB free on its disk, {LEAST_DISK // MB} are the least: make room"
    if found["free_memory_bytes"] < LEAST_MEMORY:
        yield f"{found['free_memory_bytes'] // MB} MB of memory free, {LEAST_MEMORY // MB} are the least: end programs"


def _warnings(instance: Instance, found: dict[str, Any], packages: dict[str, str]) -> Iterator[str]:
    environment = found["environment"]
    yield from overwritten(packages.get)
    if environment["emulated"] and not instance.device.emulated:
        yield "it is emulated, which lab.yaml does not say: its latency is not reported"
    if environment["governor"] not in ("unknown", "performance"):
        yield (
            f"its clock follows the load (governor {environment['governor']}): write `performance` into"
            " /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        )
    if environment["load_average"] > BUSY:
        yield f"load average {environment['load_average']:.1f}: something else runs on it"
    if (hot := environment["temperature_c"]) is not None and hot > HOT_C:
        yield f"{hot:.0f} degrees: let it cool down, or set `cool_below_c`"
