"""What the stage cache holds, and how room is made in it without taking a stage from whoever works with it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from edgeprune.cache import RECORD, locked
from edgeprune.errors import OutputError
from edgeprune.registry import unknown

KEY = re.compile(r"[0-9a-f]{32}")
DAY_S = 86_400.0


@dataclass(frozen=True)
class Kept:
    """One stage in the cache, finished or left unfinished."""

    stage: str
    key: str
    folder: Path
    """Where it is once it is finished; what is unfinished lies beside it."""
    size_bytes: int
    used_at: float
    """Seconds since the epoch."""

    @property
    def places(self) -> tuple[Path, Path]:
        """The folder of a finished and that of an unfinished stage; either may be missing."""
        return self.folder, self.folder.with_suffix(".partial")


@dataclass(frozen=True)
class StageUse:
    """What all that is kept of one stage takes."""

    stage: str
    count: int
    size_bytes: int
    newest_days: float
    """Since one of them was last used."""
    oldest_days: float


@dataclass(frozen=True)
class Cleaned:
    """What cleaning did."""

    removed: tuple[Kept, ...]
    in_use: tuple[Kept, ...]
    """Left alone, because a running process makes or reads them."""

    @property
    def freed_bytes(self) -> int:
        """What the removed ones took on disk."""
        return sum(kept.size_bytes for kept in self.removed)


def kept_stages(root: Path) -> tuple[Kept, ...]:
    """Every stage below the cache's root, by name and key; nothing where there is no cache yet."""
    return tuple(kept for folder in _folders(root) for kept in _in(folder))


def by_stage(every: Sequence[Kept], now: float) -> tuple[StageUse, ...]:
    """What each stage takes, the largest first."""
    named: dict[str, list[Kept]] = {}
    for kept in every:
        named.setdefault(kept.stage, []).append(kept)
    uses = [_use(name, found, now) for name, found in named.items()]
    return tuple(sorted(uses, key=lambda use: -use.size_bytes))


def clean(root: Path, now: float, *, older_days: float = 0.0, stage: str | None = None) -> Cleaned:
    """Remove the stages last used more than `older_days` before `now`, of one name or of every.

    What is no stage stays. Raises UnknownNameError for a stage that the cache does not hold, OutputError where a
    folder cannot be removed.
    """
    names = [folder.name for folder in _folders(root)]
    if stage is not None and stage not in names:
        raise unknown("stage", stage, names, hint=f"in {root}")
    removed: list[Kept] = []
    in_use: list[Kept] = []
    for kept in kept_stages(root):
        if stage in (None, kept.stage) and now - kept.used_at >= older_days * DAY_S:
            (removed if _remove(kept) else in_use).append(kept)
    return Cleaned(tuple(removed), tuple(in_use))


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink()) if root.is_dir() else []


def _in(folder: Path) -> Iterator[Kept]:
    found = {path.name.partition(".")[0] for path in folder.iterdir() if not path.is_symlink()}
    for key in sorted(filter(KEY.fullmatch, found)):
        finished = folder / key
        places = [place for place in (finished, finished.with_suffix(".partial")) if place.is_dir()]
        if places:
            used_at = max(_touched_at(path) for path in (finished.with_suffix(".lock"), *places))
            yield Kept(folder.name, key, finished, sum(map(_size_bytes, places)), used_at)


def _touched_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _use(name: str, found: Sequence[Kept], now: float) -> StageUse:
    ages = [max(0.0, now - kept.used_at) / DAY_S for kept in found]
    return StageUse(name, len(found), sum(kept.size_bytes for kept in found), min(ages), max(ages))


def _size_bytes(folder: Path) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):  # a running process finishes or clears it while we count
                total += (Path(place) / name).lstat().st_size
    return total


def _remove(kept: Kept) -> bool:
    """Whether nobody held it, so that it could go; its lock file goes last, while it is held."""
    record = kept.folder / RECORD
    try:
        with locked(kept.folder.with_suffix(".lock"), wait=False) as lock, ExitStack() as held:
            if record.is_file():
                fcntl.flock(held.enter_context(record.open("r+b")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            for place in filter(Path.is_dir, kept.places):
                shutil.rmtree(place)
            lock.unlink()
    except BlockingIOError:
        return False
    except OSError as error:
        raise OutputError(f"{kept.folder}: cannot be removed ({error.strerror}): check its permissions") from error
    return True
