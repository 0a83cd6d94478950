"""Resident memory of this process, as Linux counts it.

`VmHWM` in /proc/self/status is the largest resident set since the process began, or since 5 was written to
/proc/self/clear_refs (proc_pid_clear_refs(5)). Importing a runtime can need more for a moment than it keeps, so the
mark is lowered after the import; where that is not permitted the peak may be too large, never too small.
"""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc/self")


def resident_bytes(proc: Path = PROC) -> int:
    """The resident set now."""
    return _field(proc, "VmRSS")


def peak_bytes(proc: Path = PROC) -> int:
    """The largest resident set since the mark was lowered."""
    return _field(proc, "VmHWM")


def lower_mark(proc: Path = PROC) -> bool:
    """Let the peak start again from now; False where that is not permitted."""
    try:
        (proc / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _field(proc: Path, name: str) -> int:
    for line in (proc / "status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024  # it says kB and means KiB
    raise ValueError(f"{proc}/status has no {name}")
