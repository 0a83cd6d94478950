"""The energy counters of NVIDIA cards, through the management library.

NVML API Reference, `nvmlDeviceGetTotalEnergyConsumption` (millijoules since the driver was loaded, Volta and newer) and
`nvmlDeviceGetPowerUsage`. On Orin the library answers and has no power to tell: that is said, never taken for 0.
"""

from __future__ import annotations

from typing import Any

from edgeprune.errors import MissingError

MILLI = 1e-3
SENSOR = "NVML"


class NvmlMeter:
    """All cards of this machine together, whoever used them; the processor is not in it."""

    sampling_hz = None
    """The counter moves at a rate that NVIDIA does not tell."""

    def __init__(self, library: Any = None) -> None:
        self._nvml = library or _library()
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            self._cards = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
            names = [_text(self._nvml.nvmlDeviceGetName(card)) for card in self._cards]
            self._begin_mj = self._total_mj() if self._cards else 0
        except self._nvml.NVMLError as error:
            raise MissingError(f"{SENSOR}: {error}") from error
        if not self._cards:
            raise MissingError(f"{SENSOR}: no card")
        if self._begin_mj == 0:
            raise MissingError(f"{SENSOR}: every energy counter reads 0")
        self.sensor = f"{SENSOR} {' + '.join(names)}"

    def energy_j(self) -> float:
        """Joules since it was opened."""
        try:
            return (self._total_mj() - self._begin_mj) * MILLI
        except self._nvml.NVMLError as error:
            raise MissingError(f"{self.sensor}: {error} (while measuring)") from error

    def close(self) -> None:
        """Let the library go."""
        self._nvml.nvmlShutdown()

    def _total_mj(self) -> int:
        return sum(int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(card)) for card in self._cards)


class NvmlUse:
    """How busy the cards of this machine are. Raises MissingError where none tells."""

    def __init__(self, library: Any = None) -> None:
        self._nvml = library or _library()
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            self._cards = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except self._nvml.NVMLError as error:
            raise MissingError(f"{SENSOR}: {error}") from error
        if not self._cards:
            raise MissingError(f"{SENSOR}: no card")
        self.share()

    def share(self) -> float:
        """Of time in which kernels ran lately, on the busiest card. Raises MissingError."""
        try:
            return max(int(self._nvml.nvmlDeviceGetUtilizationRates(card).gpu) for card in self._cards) / 100
        except self._nvml.NVMLError as error:
            raise MissingError(f"{SENSOR}: {error}") from error


def _library() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise MissingError(f"{SENSOR}: the Python bindings are missing: pip install nvidia-ml-py") from error
    return pynvml


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
