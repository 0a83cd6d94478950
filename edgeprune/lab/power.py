"""Turn a device off and on, by a command of the user's."""

from __future__ import annotations

import subprocess

from edgeprune.errors import DeviceError
from edgeprune.lab.inventory import Device
from edgeprune.progress import Progress

POWER_S = 120.0


def power_cycle(device: Device, progress: Progress) -> None:
    """Run the command, without a shell. Raises DeviceError where it fails."""
    words = " ".join(device.power_cycle)
    progress.say(f"{device.name}: off and on: {words}")
    try:
        done = subprocess.run(device.power_cycle, capture_output=True, text=True, timeout=POWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        progress.say(f"{device.name}: {words}: {error}")
        raise DeviceError(f"{device.name}: {words}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        progress.say(f"{device.name}: {words}: {last}")
        raise DeviceError(f"{device.name}: {words}: {last}")
