"""What Linux' hwmon files say: numbers and names below a chip's folder."""

from __future__ import annotations

from pathlib import Path

from edgeprune.errors import MissingError


def chips(root: Path, name: str) -> tuple[Path, ...]:
    """Folders of every chip that calls itself `name`, sorted."""
    found = (root / "sys/class/hwmon").glob("hwmon*")
    return tuple(sorted(chip for chip in found if _stripped(chip / "name") == name))


def text(path: Path, sensor: str) -> str:
    """The content of a file. Raises MissingError saying what stands in the way."""
    try:
        return path.read_text(encoding="ascii").strip()
    except PermissionError as error:
        raise MissingError(f"{sensor}: {path} may only be read by root: sudo chmod a+r {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise MissingError(f"{sensor}: {path}: {getattr(error, 'strerror', None) or 'no text'}") from error


def number(path: Path, sensor: str) -> int:
    """The number in a file, as the chip's own unit has it. Raises MissingError where there is none."""
    found = text(path, sensor)
    try:
        return int(found)
    except ValueError as error:
        raise MissingError(f"{sensor}: {path} holds {found!r:.30}, no number") from error


def _stripped(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
