"""Processors that are not here, run by QEMU."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def emulated_root() -> Path:
    """A Debian for aarch64, made once by .ci/emulated-device."""
    root = Path(os.environ.get("EDGEPRUNE_EMULATED", ROOT / "build" / "emulated-device"))
    needed = {"debootstrap": "debootstrap", "qemu-aarch64-static": "qemu-user-static"}
    missing = [
        package
        for program, package in needed.items()
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None
    ]
    if missing:
        pytest.skip(f"no emulated device: apt-get install {' '.join(missing)}")
    if os.getuid():
        pytest.skip("no emulated device: only root can make a file system with devices in it")
    made = subprocess.run([ROOT / ".ci" / "emulated-device", root], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no emulated device: {made.stderr.strip().splitlines()[-1]}")
    return root
