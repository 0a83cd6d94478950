"""The counters that Zeus finds on a host: cards, processor packages and their memory together.

J.-W. Chung et al., Zeus, NSDI 2023 and its documentation, `ZeusMonitor`. Its `total_energy` is that of the cards alone,
so the parts are added up here. On a Jetson it reads ten times a second and mistakes rails: `ina3221` is for those.
"""

from __future__ import annotations

from typing import Any

from edgeprune.errors import MissingError

SENSOR, WINDOW = "Zeus", "edgeprune"


class ZeusMeter:
    """All cards and processor packages of this host, whoever used them."""

    sampling_hz = None
    """Each counter moves at a rate of its own, which Zeus does not tell."""

    def __init__(self, monitor: Any = None) -> None:
        self._monitor, self._joules = monitor or _monitor(), 0.0
        cards, packages = len(self._monitor.gpu_indices), len(self._monitor.cpu_indices)
        if not cards + packages:
            raise MissingError(f"{SENSOR}: finds no counter of a card or a processor that may be read")
        counted = [f"{count} {name}" for count, name in ((cards, "cards"), (packages, "processor packages")) if count]
        self.sensor = f"{SENSOR} {' + '.join(counted)}"
        self._begin()

    def energy_j(self) -> float:
        """Joules since it was opened. Raises MissingError where a counter has failed since."""
        try:
            found = self._monitor.end_window(WINDOW, sync_execution=False)
        except Exception as error:  # each of its devices raises a type of its own
            raise MissingError(f"{self.sensor}: {error} (while measuring)") from error
        for part in (found.gpu_energy, found.cpu_energy, found.dram_energy):
            self._joules += sum((part or {}).values())
        self._begin()
        return self._joules

    def close(self) -> None:
        """Forget the window that is open."""
        self._monitor.reset_windows()

    def _begin(self) -> None:
        self._monitor.begin_window(WINDOW, sync_execution=False)


def _monitor() -> Any:
    try:
        from zeus.monitor import ZeusMonitor
    except ImportError as error:
        raise MissingError(f"{SENSOR}: is missing ({error}): pip install 'edgeprune[zeus]'") from error
    return ZeusMonitor()
