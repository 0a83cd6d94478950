"""What machine this is: read from /proc and /sys, so that nothing needs to be installed on a device."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeprune.measure.condition import temperature_c, throttles
from edgeprune.targets.machine import architecture, instruction_sets, power_mode

CPU = "sys/devices/system/cpu"
PACKAGES = ("edgeprune", "numpy", "onnxruntime", "openvino", "tensorrt")


def probe(root: Path = Path("/"), *, machine: str | None = None, affinity: int | None = None) -> dict[str, Any]:
    """The fields of `results.Environment`, JSON-ready.

    `machine` (as `uname -m` says) and `affinity` (cores this process may use) are this process' own unless given.
    """
    machine = machine or platform.machine()
    cpuinfo = _read(root / "proc/cpuinfo")
    return {
        "machine": _processor(root, cpuinfo) or machine,
        "arch": architecture(machine),
        "isa": instruction_sets(root),
        "cores": _cores(root, affinity or len(os.sched_getaffinity(0))),
        "memory_bytes": _memory_bytes(root),
        "os": _os(root),
        "python": platform.python_version(),
        "versions": _versions(),
        "governor": _read(root / CPU / "cpu0/cpufreq/scaling_governor").strip() or "unknown",
        "emulated": _emulated(root, machine, cpuinfo),
        "load_average": float((_read(root / "proc/loadavg").split() or ["0"])[0]),
        "temperature_c": temperature_c(root),
        "clock_mhz": _clock_mhz(root, cpuinfo),
        "throttled": throttles(root),
        "turbo": _turbo(root),
        "smt": {"1": True, "0": False}.get(_read(root / CPU / "smt/active").strip()),
        "power_mode": power_mode(root),
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    except OSError:
        return ""


def _value(text: str, key: str) -> str:
    found = re.search(rf"^{re.escape(key)}\s*[:=]\s*(.*)$", text, re.MULTILINE)
    return found.group(1).strip().strip('"') if found else ""


def _processor(root: Path, cpuinfo: str) -> str:
    """x86 names its processor; ARM boards name themselves in the device tree."""
    return (
        _value(cpuinfo, "model name") or _read(root / "proc/device-tree/model").strip() or _value(cpuinfo, "Hardware")
    )


def _cores(root: Path, affinity: int) -> int:
    """What the scheduler allows, or less where a container has a quota."""
    quota, _, period = _read(root / "sys/fs/cgroup/cpu.max").strip().partition(" ")
    if quota.isdigit() and period.isdigit():
        return max(1, min(affinity, int(quota) // int(period)))
    return affinity


def _memory_bytes(root: Path) -> int:
    total = int((_value(_read(root / "proc/meminfo"), "MemTotal").split() or ["0"])[0]) * 1024
    limit = _read(root / "sys/fs/cgroup/memory.max").strip()
    return min(total, int(limit)) if limit.isdigit() else total


def _os(root: Path) -> str:
    name = _value(_read(root / "etc/os-release"), "PRETTY_NAME")
    kernel = _read(root / "proc/sys/kernel/osrelease").strip()
    return ", ".join(filter(None, (name, f"Linux {kernel}" if kernel else platform.system())))


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _emulated(root: Path, machine: str, cpuinfo: str) -> bool:
    """Whether instructions are translated: then times say nothing about the machine that is named.

    QEMU's user mode disguises itself in most of /proc, but not in a thread's `exe`; older ones show the host's cpuinfo.
    """
    programs = [thread / "exe" for thread in (root / "proc/self/task").glob("*")]
    if any(path.is_symlink() and path.readlink().name.startswith("qemu-") for path in programs):
        return True
    x86 = architecture(machine) in {"x86_64", "i686", "i386"}
    foreign = "\nFeatures" in cpuinfo if x86 else "vendor_id" in cpuinfo
    return foreign or "QEMU TCG" in cpuinfo


def _clock_mhz(root: Path, cpuinfo: str) -> float | None:
    khz = [_read(path).strip() for path in (root / CPU).glob("cpu*/cpufreq/scaling_cur_freq")]
    told = [int(text) / 1000 for text in khz if text.isdigit()]
    return max(told or map(float, re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.MULTILINE)), default=None)


def _turbo(root: Path) -> bool | None:
    """One driver tells whether it is off, the others whether it is on."""
    off = _read(root / CPU / "intel_pstate/no_turbo").strip()
    on = _read(root / CPU / "cpufreq/boost").strip()
    return {"0": True, "1": False}.get(off, {"1": True, "0": False}.get(on))
