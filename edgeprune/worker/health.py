"""How a device is right now, as a line of JSON: `python -m edgeprune.worker.health METER...`; standard library only."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from edgeprune.errors import EdgePruneError
from edgeprune.meters.meter import detect
from edgeprune.worker.probe import probe

POWER_MODE_S = 10.0


def health(meters: Sequence[str], root: Path = Path("/"), folder: Path = Path()) -> dict[str, Any]:
    """What `probe` says, and the room there is: free bytes on the disk of `folder` and in memory, power mode, meter.

    `meter` is the first of `meters` that works; where none does, it is None and `no_meter` says why.
    """
    found = probe(root)
    try:
        with closing(detect(meters)) as meter:
            sensor, reason = meter.sensor, ""
    except EdgePruneError as error:
        sensor, reason = None, str(error)
    return {
        "environment": found,
        "free_disk_bytes": shutil.disk_usage(folder).free,
        "free_memory_bytes": _free_memory(root),
        "power_mode": _power_mode() or f"governor {found['governor']}",
        "meter": sensor,
        "no_meter": reason,
    }


def _free_memory(root: Path) -> int:
    try:
        told = (root / "proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return 0
    line = re.search(r"^MemAvailable:\s*(\d+)", told, re.MULTILINE)
    return int(line.group(1)) * 1024 if line else 0


def _power_mode() -> str:
    """What a Jetson says of itself; empty elsewhere."""
    program = shutil.which("nvpmodel", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return ""
    try:
        said = subprocess.run([program, "-q"], capture_output=True, text=True, timeout=POWER_MODE_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    mode = re.search(r"NV Power Mode:\s*(\S+)", said)
    return mode.group(1) if mode else ""


if __name__ == "__main__":
    print(json.dumps(health(sys.argv[1:])))
