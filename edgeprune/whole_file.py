"""Files that appear whole or stay as they were, whatever ends their writing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeprune.errors import OutputError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside a file to write it at, which takes the file's own at the end of the block; a failure removes it.

    It is this process's own: where two write one file at once, that of the last one stays, whole. What stops the
    writing, such as an OSError of a full disk, is raised as it is. A device or a pipe is never replaced by a file, not
    even where root may do that: FileExistsError.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise FileExistsError(errno.EEXIST, "it is a device or a pipe", str(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


def write_whole(path: Path, content: bytes, remedy: str, *, make_folders: bool = False) -> None:
    """Write a file so, on request with the folders it lies in. Raises OutputError with the remedy where it cannot."""
    try:
        if make_folders:
            path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): {remedy}") from error
