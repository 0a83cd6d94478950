"""The power monitor of Jetson Thor, through hwmon: the chip multiplies itself.

Texas Instruments, INA238 data sheet, SBOSA20; Linux kernel documentation, hwmon/ina238: `power1_input` in microwatts.
"""

from __future__ import annotations

from pathlib import Path

from edgeprune.errors import MissingError
from edgeprune.meters import hwmon
from edgeprune.meters.power import PowerIntegral

SENSOR = "INA238"
MICRO = 1e-6


class Ina238Meter(PowerIntegral):
    """What the board draws at its input, VIN."""

    sampling_hz = 100.0

    def __init__(self, root: Path = Path("/")) -> None:
        chips = hwmon.chips(root, "ina238")
        if not chips:
            raise MissingError(f"{SENSOR}: none in {root / 'sys/class/hwmon'}")
        named = [chip for chip in chips if _label(chip) == "VIN"]
        if not named and len(chips) > 1:
            labels = ", ".join(_label(chip) or "no label" for chip in chips)
            raise MissingError(f"{SENSOR}: {len(chips)} of them ({labels}), none is called VIN: which is the total?")
        chip = (named or list(chips))[0]
        super().__init__(lambda: hwmon.number(chip / "power1_input", SENSOR) * MICRO, self.sampling_hz)
        if self._last_w <= 0:
            self.close()
            raise MissingError(f"{SENSOR}: {chip / 'power1_input'} reads {self._last_w:g} W")
        self.sensor = f"{SENSOR} {_label(chip) or 'board input'}"


def _label(chip: Path) -> str:
    for name in ("power1_label", "in1_label", "label"):
        if (chip / name).is_file():
            return hwmon.text(chip / name, SENSOR)
    return ""
