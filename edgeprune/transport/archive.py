"""Unpack a tar stream that somebody else wrote: plain files and folders, below one folder, of bounded size."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from edgeprune.errors import DeviceError

MOST_BYTES = 4 << 30
MOST_FILES = 100_000


def unpack(stream: IO[bytes], folder: Path, *, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES) -> None:
    """Write the members below `folder`, as they come; owners, modes and times are not taken over.

    Raises DeviceError at the first member that is no plain file or folder, is absolute or holds `..`, or where the
    archive is damaged or larger than allowed. What was written before lies in `folder`.
    """
    left = most_bytes
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for number, member in enumerate(archive, start=1):
                goal = _goal(member, folder)
                left -= member.size
                if left < 0 or number > most_files:
                    raise DeviceError(f"archive: more than {most_bytes} bytes or {most_files} files: refused")
                if member.isdir():
                    goal.mkdir(parents=True, exist_ok=True)
                    continue
                content = archive.extractfile(member)
                if content is None:  # a file without content is still one, so this is none
                    raise DeviceError(f"archive: {member.name!r} cannot be read: refused")
                goal.parent.mkdir(parents=True, exist_ok=True)
                with goal.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise DeviceError(f"archive: damaged or cut off ({error})") from error


def _goal(member: tarfile.TarInfo, folder: Path) -> Path:
    pure = PurePosixPath(member.name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in member.name:
        raise DeviceError(f"archive: {member.name!r} leads out of its folder: refused")
    if not (member.isreg() or member.isdir()):  # links could lead anywhere, devices and pipes are none of ours
        raise DeviceError(f"archive: {member.name!r} is neither a file nor a folder: refused")
    return folder / pure
