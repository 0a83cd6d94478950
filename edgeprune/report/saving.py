"""Write what a report is, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from edgeprune.whole_file import write_whole


def save(content: str | bytes, path: Path) -> None:
    """Write a file and the folders it lies in. Raises OutputError where it cannot."""
    write_whole(
        path, content.encode() if isinstance(content, str) else content, "choose another place", make_folders=True
    )
