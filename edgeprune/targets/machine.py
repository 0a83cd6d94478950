"""What kind of processor we run on; standard library only, for the worker asks it on devices."""

from __future__ import annotations

import platform
import re
from pathlib import Path

ISA = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8"),
    *("amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""Flags of /proc/cpuinfo that decide which kernels a runtime takes."""
ARCHITECTURES = {"AMD64": "x86_64", "arm64": "aarch64"}


def architecture(machine: str | None = None) -> str:
    """`x86_64`, `aarch64` or whatever else `uname -m` says; one name per architecture on every system."""
    machine = machine or platform.machine()
    return ARCHITECTURES.get(machine, machine)


def power_mode(root: Path = Path("/")) -> str | None:
    """Of a Jetson, as `nvpmodel` has set it: a number as text; None elsewhere."""
    try:
        said = (root / "var/lib/nvpmodel/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^pmode\s*[:=]\s*(\S+)", said, re.MULTILINE)
    return found.group(1) if found else None


def instruction_sets(root: Path = Path("/")) -> tuple[str, ...]:
    """The flags of `ISA` that this processor has; empty where /proc does not tell."""
    try:
        cpuinfo = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)  # x86 and ARM
    has = set(line.group(1).split()) if line else set()
    return tuple(flag for flag in ISA if flag in has)
