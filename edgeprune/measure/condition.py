"""What state a machine is in: how busy, how much memory is left, how hot. Read from /proc and /sys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edgeprune.errors import MissingError

ROOT = Path("/")
SLOWING = ("thermal-cpufreq", "processor", "cpufreq", "devfreq")
"""Types of cooling devices that cool by slowing something down, not by a fan."""


class Condition(NamedTuple):
    """At one time; None where nothing tells."""

    cpu: float | None
    """Share of all cores' time that was used since the last reading."""
    gpu: float | None
    headroom_bytes: int | None
    """Memory that can be had without swapping, in this container."""
    temperature_c: float | None
    """Of the hottest zone."""
    throttled: bool
    """Whether a processor was slowed down for heat or power since the last reading."""


class ConditionReader:
    """Keeps what counters said before, for most tell only sums."""

    def __init__(self, root: Path = ROOT, card: Callable[[], float] | None = None) -> None:
        """`card` tells the use of a GPU that no file tells of, as `NvmlUse.share`; it may raise MissingError."""
        self._root, self._card = root, card
        self._busy, self._total = _ticks(root)
        self._throttles = throttles(root) or 0

    def read(self) -> Condition:
        """The condition since the last call."""
        busy, total = _ticks(self._root)
        cpu = (busy - self._busy) / (total - self._total) if total > self._total else None
        count = throttles(self._root) or 0
        throttled = count > self._throttles or _cooling(self._root)
        self._busy, self._total, self._throttles = busy, total, count
        return Condition(cpu, self._gpu(), _headroom_bytes(self._root), temperature_c(self._root), throttled)

    def _gpu(self) -> float | None:
        if self._card is None:
            return _gpu(self._root)
        try:
            return self._card()
        except MissingError:
            return None


def temperature_c(root: Path = ROOT) -> float | None:
    """Of the hottest thermal zone."""
    zones = (_number(path) for path in (root / "sys/class/thermal").glob("thermal_zone*/temp"))
    return max((zone / 1000 for zone in zones if zone is not None), default=None)


def _ticks(root: Path) -> tuple[int, int]:
    """Of all cores together, in use and in all: proc(5), `/proc/stat`; guest time is in user time already."""
    line = _text(root / "proc/stat").partition("\n")[0].split()
    if line[:1] != ["cpu"]:
        return 0, 0
    ticks = [int(text) for text in line[1:9]]
    return sum(ticks) - sum(ticks[3:5]), sum(ticks)  # the fourth and fifth are idle and waiting for a disk


def _headroom_bytes(root: Path) -> int | None:
    left = []
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            left.append(1024 * int(line.split()[1]))
    limit, used = _number(root / "sys/fs/cgroup/memory.max"), _number(root / "sys/fs/cgroup/memory.current")
    if limit is not None and used is not None:
        left.append(limit - used)
    return min(left, default=None)


def throttles(root: Path = ROOT) -> int | None:
    """How often an x86 processor was slowed down since it started; None where it does not count.

    Intel counts for each core, and for its package: the same number in all of its cores.
    """

    def counts(name: str) -> list[int]:
        found = (root / "sys/devices/system/cpu").glob(f"cpu[0-9]*/thermal_throttle/{name}")
        return [count for count in map(_number, found) if count is not None]

    cores, packages = counts("core_throttle_count"), counts("package_throttle_count")
    return sum(cores) + max(packages, default=0) if cores or packages else None


def _cooling(root: Path) -> bool:
    """Whether the kernel holds the frequency of a processor down, as it does on boards."""
    devices = (root / "sys/class/thermal").glob("cooling_device*")
    slowing = [one for one in devices if _text(one / "type").strip().lower().startswith(SLOWING)]
    return any((_number(one / "cur_state") or 0) > 0 for one in slowing)


def _gpu(root: Path) -> float | None:
    """Jetson tells thousandths, amdgpu hundredths."""
    for pattern, full in (("sys/devices/gpu.0/load", 1000), ("sys/devices/platform/*gpu*/load", 1000)):
        for path in root.glob(pattern):
            if (found := _number(path)) is not None:
                return found / full
    busy = [_number(path) for path in root.glob("sys/class/drm/card[0-9]*/device/gpu_busy_percent")]
    return max((one / 100 for one in busy if one is not None), default=None)


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
