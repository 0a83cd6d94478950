"""The energy counters of x86 processors, through Linux' powercap files.

Linux kernel documentation, Power Capping Framework; Intel 64 and IA-32 Architectures Software Developer's Manual,
volume 3B, RAPL interfaces: a counter moves about every millisecond and starts again at `max_energy_range_uj`.
"""

from __future__ import annotations

from pathlib import Path

from edgeprune.errors import MissingError

MICRO = 1e-6


class RaplMeter:
    """All processor packages of this machine together, whoever used them."""

    sampling_hz = 1000.0

    def __init__(self, root: Path = Path("/")) -> None:
        folder = root / "sys/class/powercap"
        self._zones = [
            zone for zone in sorted(folder.glob("intel-rapl:*")) if _text(zone / "name").startswith("package")
        ]
        if not self._zones:
            raise MissingError(f"RAPL: no processor package in {folder}")
        self._last_uj = [_count(zone / "energy_uj") for zone in self._zones]
        if not any(self._last_uj):
            raise MissingError(f"RAPL: every counter in {folder} reads 0")
        self._ranges_uj = [_count(zone / "max_energy_range_uj") for zone in self._zones]
        self._total_uj = 0
        self.sensor = "RAPL " + " + ".join(_text(zone / "name") for zone in self._zones)

    def energy_j(self) -> float:
        """Joules since it was opened; right as long as no counter went round twice since the last call."""
        for i, zone in enumerate(self._zones):
            now_uj = _count(zone / "energy_uj")
            gone_uj = now_uj - self._last_uj[i]
            self._total_uj += gone_uj if gone_uj >= 0 else gone_uj + self._ranges_uj[i]
            self._last_uj[i] = now_uj
        return self._total_uj * MICRO

    def close(self) -> None:
        """Nothing is held open."""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except PermissionError as error:
        raise MissingError(f"RAPL: {path} may only be read by root: sudo chmod a+r {path}") from error
    except OSError as error:
        raise MissingError(f"RAPL: {path}: {error.strerror}") from error


def _count(path: Path) -> int:
    text = _text(path)
    if not text.isdigit():
        raise MissingError(f"RAPL: {path} holds no number")
    return int(text)
