"""Write what a report is, whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edgeprune.errors import OutputError


def save(content: str | bytes, path: Path) -> None:
    """Write a file and the folders it lies in. Raises OutputError where it cannot."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another place") from error
