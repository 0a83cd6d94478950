"""The three-rail power monitors of Jetson Orin, through hwmon: volts times amperes of the rails that are the total.

Texas Instruments, INA3221 data sheet, SBOS576; Linux kernel documentation, hwmon/ina3221: channels 1 to 3 are rails, a
seventh sums up shunt voltages and is none. Which rail is the total: NVIDIA Jetson Linux Developer Guide, "Power
Monitor", and as jetson-stats has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import MissingError
from edgeprune.meters import hwmon
from edgeprune.meters.power import PowerIntegral

SENSOR = "INA3221"
RAILS = (1, 2, 3)
TOTALS = ("VIN", "POM_5V_IN", "VDD_IN")
"""Rails that all power comes through, on one board or another; where none is there, all are added up."""
MICRO = 1e-6


@dataclass(frozen=True)
class Rail:
    """One channel of one chip."""

    name: str
    chip: Path
    channel: int

    def watts(self) -> float:
        """Millivolts times milliamperes. Raises MissingError."""
        volts = hwmon.number(self.chip / f"in{self.channel}_input", SENSOR)
        return volts * hwmon.number(self.chip / f"curr{self.channel}_input", SENSOR) * MICRO


class Ina3221Meter(PowerIntegral):
    """What the whole board draws, or all its rails where no single one carries that."""

    sampling_hz = 100.0
    """The chip averages over some milliseconds; faster readings see the same value twice."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._rails = total(rails(root))
        super().__init__(self._power, self.sampling_hz)
        if self._last_w <= 0:
            self.close()
            raise MissingError(f"{SENSOR}: {self._names()} reads {self._last_w:g} W")
        self.sensor = f"{SENSOR} {self._names()}"

    def _power(self) -> float:
        return sum(rail.watts() for rail in self._rails)

    def _names(self) -> str:
        return " + ".join(rail.name for rail in self._rails)


def rails(root: Path) -> tuple[Rail, ...]:
    """Every connected rail. Raises MissingError where there is none."""
    found = [
        Rail(label, chip, channel)
        for chip in hwmon.chips(root, "ina3221")
        for channel in RAILS
        if (chip / f"in{channel}_label").is_file()
        and (label := hwmon.text(chip / f"in{channel}_label", SENSOR)) not in ("", "NC")
    ]
    if not found:
        raise MissingError(f"{SENSOR}: no connected rail in {root / 'sys/class/hwmon'}")
    return tuple(found)


def total(found: tuple[Rail, ...]) -> tuple[Rail, ...]:
    """The rail that carries everything, else all of them: they are apart from each other then."""
    for name in TOTALS:
        if whole := tuple(rail for rail in found if rail.name == name):
            return whole[:1]
    return found
