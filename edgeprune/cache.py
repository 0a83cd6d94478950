"""Stages that are done once: each one's folder is found again under the hash of all that went into it.

    <root>/<stage>/<key>/            finished: its files and `stage.json` with their hashes
    <root>/<stage>/<key>.partial/    under way, or left by a process that was killed

A finished folder appears in one rename, so a kill at any instant leaves it whole or absent. What a resumable stage left
behind (checkpoints) is handed to the next attempt. Whoever makes a stage holds `<key>.lock`, whose time is that of the
last use; whoever has a `Stage` shares a lock on its record, so that nobody empties a folder that is being read.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from edgeprune.errors import OutputError
from edgeprune.file_hash import sha256_of
from edgeprune.progress import SILENT, Progress

RECORD = "stage.json"
NO_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


@dataclass(frozen=True)
class Stage:
    """A finished stage; as long as this object lives, `eviction.clean` leaves its folder alone."""

    name: str
    key: str
    folder: Path
    reused: bool
    """Whether it had been done before."""


@dataclass(frozen=True)
class StageCache:
    """Finished stages under one folder."""

    root: Path
    again: bool = False
    """Do every stage again, whatever is there (`--force`)."""

    def run(
        self,
        name: str,
        inputs: Mapping[str, Any],
        work: Callable[[Path], None],
        *,
        code: tuple[str, ...],
        resumable: bool = False,
        progress: Progress = SILENT,
    ) -> Stage:
        """The stage `name` for these inputs: found, or made by `work(folder)`.

        `inputs` holds JSON values and earlier stages (which stand for all their own inputs); `code` names the packages
        of `edgeprune` whose source decides the outcome. A folder whose files are not those that were written is made
        again. Two processes that want the same stage wait for each other.

        Raises OutputError where the cache folder cannot be written.
        """
        key = _key(name, inputs, code)
        folder = self.root / name / key
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder.with_suffix(".lock")) as lock:
                os.utime(lock)
                if folder.is_dir() and not self.again:
                    if (damaged := _damaged(folder)) is None:
                        return _held(Stage(name, key, folder, reused=True))
                    progress.say(f"{name}: {damaged} is not what was written: done again")
                self._make(folder, inputs, work, resumable=resumable)
                return _held(Stage(name, key, folder, reused=False))
        except OSError as error:
            if error.errno not in NO_PLACE:
                raise
            raise OutputError(
                f"{self.root}: cannot keep the stage '{name}' ({error.strerror}): make room or set EDGEPRUNE_CACHE=DIR"
            ) from error

    def _make(self, folder: Path, inputs: Mapping[str, Any], work: Callable[[Path], None], *, resumable: bool) -> None:
        partial = folder.with_suffix(".partial")
        if not resumable or self.again:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(exist_ok=True)
        begin = perf_counter()
        try:
            work(partial)
        except BaseException:
            if not resumable:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        files = {path.relative_to(partial).as_posix(): sha256_of(path) for path in _files(partial)}
        record = {"inputs": _plain(inputs), "files": files, "seconds": round(perf_counter() - begin, 3)}
        (partial / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


@dataclass(frozen=True)
class Rehearsed:
    """A stage that was asked for in a rehearsal."""

    name: str
    done: bool
    last_seconds: float | None
    """How long a stage of this name took when one was last done here, whatever its inputs."""


@dataclass(frozen=True)
class Rehearsal(StageCache):
    """Goes through the motions: says which stages are done and which are not, and does none."""

    asked: list[Rehearsed] = field(default_factory=list)

    def run(
        self,
        name: str,
        inputs: Mapping[str, Any],
        work: Callable[[Path], None],
        *,
        code: tuple[str, ...],
        resumable: bool = False,
        progress: Progress = SILENT,
    ) -> Stage:
        """The stage as it is, or would be."""
        key = _key(name, inputs, code)
        folder = self.root / name / key
        done = folder.is_dir() and not self.again and _damaged(folder) is None
        self.asked.append(Rehearsed(name, done, _last_seconds(self.root / name)))
        return Stage(name, key, folder, reused=done)


def _last_seconds(place: Path) -> float | None:
    records = [(path.stat().st_mtime, path) for path in place.glob(f"*/{RECORD}")]
    for _, path in sorted(records, reverse=True):
        try:
            return float(json.loads(path.read_bytes())["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def code_version(packages: tuple[str, ...]) -> str:
    """Hash of the source of these packages or modules of `edgeprune`: a stage is done again when its code changes."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for package in sorted(packages):
        place = root / package
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _key(name: str, inputs: Mapping[str, Any], code: tuple[str, ...]) -> str:
    text = json.dumps({"stage": name, "inputs": _plain(inputs), "code": code_version(code)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.key if isinstance(value, Stage) else value for name, value in inputs.items()}


def _damaged(folder: Path) -> str | None:
    """The first file that is missing or altered; None where all is as it was written."""
    try:
        files = json.loads((folder / RECORD).read_bytes())["files"]
        return next((name for name, digest in files.items() if sha256_of(folder / name) != digest), None)
    except (OSError, ValueError, KeyError, TypeError):
        return RECORD


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)


def _held(stage: Stage) -> Stage:
    record = (stage.folder / RECORD).open("rb")
    fcntl.flock(record, fcntl.LOCK_SH)
    weakref.finalize(stage, record.close)
    return stage


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[Path]:
    """Hold a lock file; the lock dies with its process, so a kill leaves none behind.

    Raises BlockingIOError where another holds it and nobody wants to wait.
    """
    while True:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _still_at(path, file.fileno()):
                yield path
                return


def _still_at(path: Path, descriptor: int) -> bool:
    """Whether the path leads to the open file: who cleaned while we waited has removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
