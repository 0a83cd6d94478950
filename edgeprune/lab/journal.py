"""What a lab was asked to do and what came of it, in one SQLite file that any kill leaves whole.

A run is a list of jobs, one per device and bundle. A job is `queued`, `running`, `done` or `failed`; it becomes done in
the very transaction that keeps its measurements, so that none is lost and none done twice. Runs are told apart by their
numbers, which grow whatever the clock does.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgeprune.errors import CorruptError, OutputError
from edgeprune.registry import unknown
from edgeprune.results import Measured

FILE = "journal.sqlite"
SCHEMA = 1
TABLES = """
CREATE TABLE IF NOT EXISTS run (
    id INTEGER PRIMARY KEY AUTOINCREMENT, plan TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT
);
CREATE TABLE IF NOT EXISTS job (
    run INTEGER NOT NULL REFERENCES run, device TEXT NOT NULL, target TEXT NOT NULL, bundle TEXT NOT NULL,
    name TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'queued', attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', seconds REAL, at TEXT, measured BLOB, PRIMARY KEY (run, device, bundle)
);
CREATE INDEX IF NOT EXISTS job_device ON job (device, run);
"""
QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
COMPRESSION = 1
"""Of zlib: samples are many numbers, and time is short."""
_MEASURED: TypeAdapter[Measured] = TypeAdapter(Measured)


@dataclass(frozen=True)
class Job:
    """One bundle on one device."""

    device: str
    target: str
    """Of the device."""
    bundle: str
    """The bundle's hash."""
    name: str
    """What the bundle's folder is called."""


@dataclass(frozen=True)
class Record:
    """What came of a job."""

    run: int
    job: Job
    state: str
    attempts: int
    reason: str
    """Why it failed."""
    seconds: float | None
    at: str
    """When it ended, UTC, ISO 8601."""


@dataclass(frozen=True)
class Run:
    """Jobs that were asked for together."""

    id: int
    started_at: str
    ended_at: str | None
    counts: dict[str, int]
    """Jobs by state."""


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Journal:
    """The journal of a folder; threads and processes may use it at once."""

    def __init__(self, folder: Path, *, now: Callable[[], str] = _now) -> None:
        self._path, self._now = folder / FILE, now
        self._locks: list[int] = []
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._open() as db:
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version not in (0, SCHEMA):
                    raise CorruptError(f"{self._path}: schema {version}, this version reads {SCHEMA}: choose another")
                db.executescript(TABLES)
                db.execute(f"PRAGMA user_version = {SCHEMA}")
        except sqlite3.DatabaseError as error:
            raise CorruptError(f"{self._path}: no journal ({error}): choose another --out") from error
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror}): choose another --out") from error

    def begin(self, jobs: Sequence[Job], settings: str, *, again: bool = False, retry: bool = False) -> int:
        """The number of the run to do: the last one of these very jobs and settings where it was interrupted, else new.

        `retry`: the last one of them, with what failed in it queued again; `again`: a new one anyhow. The run is ours
        until `close`, and what another process does meanwhile is not taken for interrupted.
        """
        told = [settings, *sorted(f"{job.device} {job.bundle}" for job in jobs)]
        plan = hashlib.sha256("\n".join(told).encode()).hexdigest()
        with self._open() as db:
            last = db.execute(
                "SELECT id, ended_at FROM run WHERE plan = ? ORDER BY id DESC LIMIT 1", (plan,)
            ).fetchone()
            if last is not None and not again and (retry or last[1] is None) and self._ours(last[0]):
                run = int(last[0])
                states = (RUNNING, FAILED) if retry else (RUNNING,)
                marks = ", ".join("?" * len(states))
                db.execute(f"UPDATE job SET state = ? WHERE run = ? AND state IN ({marks})", (QUEUED, run, *states))
                db.execute("UPDATE run SET ended_at = NULL WHERE id = ?", (run,))
                return run
            cursor = db.execute("INSERT INTO run (plan, started_at) VALUES (?, ?)", (plan, self._now()))
            run = int(cursor.lastrowid or 0)
            rows = [(run, job.device, job.target, job.bundle, job.name) for job in jobs]
            db.executemany("INSERT INTO job (run, device, target, bundle, name) VALUES (?, ?, ?, ?, ?)", rows)
            self._ours(run)
            return run

    def start(self, run: int, job: Job) -> bool:
        """Take a job that is queued; false where it is not any more."""
        with self._open() as db:
            cursor = db.execute(
                "UPDATE job SET state = ?, attempts = attempts + 1 WHERE run = ? AND device = ? AND bundle = ?"
                " AND state IN (?, ?)",
                (RUNNING, run, job.device, job.bundle, QUEUED, RUNNING),
            )
            return cursor.rowcount == 1

    def finish(self, run: int, job: Job, measured: Measured, seconds: float) -> None:
        """Keep what was measured, and with it that the job is done."""
        blob = zlib.compress(_MEASURED.dump_json(measured), COMPRESSION)
        self._end(run, job, (DONE, "", seconds, self._now(), blob))

    def fail(self, run: int, job: Job, reason: str, seconds: float) -> None:
        """Keep why nothing was measured."""
        self._end(run, job, (FAILED, reason, seconds, self._now(), None))

    def end(self, run: int) -> None:
        """Nothing more is to be done in a run."""
        with self._open() as db:
            db.execute("UPDATE run SET ended_at = ? WHERE id = ?", (self._now(), run))

    def runs(self) -> list[Run]:
        """Every run, the first first."""
        with self._open() as db:
            found = db.execute("SELECT id, started_at, ended_at FROM run ORDER BY id").fetchall()
            counted = db.execute("SELECT run, state, COUNT(*) FROM job GROUP BY run, state").fetchall()
        counts: dict[int, dict[str, int]] = {}
        for run, state, count in counted:
            counts.setdefault(run, {})[state] = count
        return [Run(id_, started_at, ended_at, counts.get(id_, {})) for id_, started_at, ended_at in found]

    def known(self, run: int) -> int:
        """The number itself. Raises UnknownNameError where there is no such run."""
        numbers = [one.id for one in self.runs()]
        if run not in numbers:
            raise unknown(f"run of {self._path}", str(run), map(str, numbers))
        return run

    def records(self, *, run: int | None = None, device: str | None = None) -> list[Record]:
        """Jobs of a run, or all, in the order of runs, devices and bundles."""
        return [record for record, _ in self._select(run, device, with_blobs=False)]

    def measured(
        self, *, run: int | None = None, device: str | None = None
    ) -> Iterator[tuple[Record, Measured | None]]:
        """The same with what was measured, one after the other, so that they need not all be held at once."""
        for record, blob in self._select(run, device, with_blobs=True):
            yield record, None if blob is None else self._decoded(blob)

    def close(self) -> None:
        """Others may go on with our runs."""
        for descriptor in self._locks:
            os.close(descriptor)
        self._locks = []
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self, run: int, job: Job, values: tuple[Any, ...]) -> None:
        with self._open() as db:
            cursor = db.execute(
                "UPDATE job SET state = ?, reason = ?, seconds = ?, at = ?, measured = ?"
                " WHERE run = ? AND device = ? AND bundle = ? AND state = ?",
                (*values, run, job.device, job.bundle, RUNNING),
            )
            if cursor.rowcount != 1:
                raise RuntimeError(f"{job} of run {run} was not running")

    def _select(
        self, run: int | None, device: str | None, *, with_blobs: bool
    ) -> Iterator[tuple[Record, bytes | None]]:
        where = [f"{name} = ?" for name, value in (("run", run), ("device", device)) if value is not None]
        values = [value for value in (run, device) if value is not None]
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        columns = "run, device, target, bundle, name, state, attempts, reason, seconds, at"
        with contextlib.closing(self._connected()) as db:  # its own, for whoever reads may write in between
            cursor = db.execute(
                f"SELECT {columns}, {'measured' if with_blobs else 'NULL'} FROM job{condition}"
                " ORDER BY run, device, name, bundle",
                values,
            )
            for run_, *job, state, attempts, reason, seconds, at, blob in cursor:
                yield Record(run_, Job(*job), state, attempts, reason, seconds, at or ""), blob

    def _decoded(self, blob: bytes) -> Measured:
        try:
            return _MEASURED.validate_python(json.loads(zlib.decompress(blob)))
        except (zlib.error, ValueError, ValidationError) as error:
            raise CorruptError(f"{self._path}: damaged ({type(error).__name__}): measure again") from error

    def _ours(self, run: int) -> bool:
        """Whether no other process does this run, and none will while we live."""
        descriptor = os.open(self._path.with_name(f".run-{run}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._locks.append(descriptor)
        return True

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The connection, ours alone for a transaction: threads that wait for each other here need not try again."""
        with self._lock:
            try:
                if self._db is None:
                    self._db = self._connected()
                with self._db:
                    yield self._db
            except sqlite3.OperationalError as error:
                raise OutputError(f"{self._path}: {error}: make room, or check its permissions") from error

    def _connected(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=60, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing; a power cut may lose the last jobs, no more
        return db
