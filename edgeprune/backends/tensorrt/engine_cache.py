"""Engines that were built on this device, each in a folder under the hash of all that it is good for only.

    <root>/<key>/model.engine    what TensorRT built
    <root>/<key>/engine.json     its header: what it was built from, for what, how long it took, the hash of its bytes
    <root>/timing-<key>.cache    how long kernels took here, which makes the next build shorter

`root` is `tensorrt` in EDGEPRUNE_CACHE, so that `edgeprune cache` sees engines as it sees stages. A folder appears in
one rename. An engine runs code of its own and fits one GPU and one TensorRT: none is opened whose header says else.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from edgeprune.errors import CorruptError, EdgePruneError, ModelError, OutputError
from edgeprune.file_hash import sha256_of

ENGINE, HEADER = "model.engine", "engine.json"
SCHEMA = 1
AGAIN = "it is built again"
LEAST_ROOM = 1 << 24
"""Bytes that a build wants beside twice its model: a compiled network can be larger than the file."""


@dataclass(frozen=True)
class Identity:
    """What an engine belongs to: with another of these it is another engine."""

    model_sha256: str
    tensorrt: str
    compute_capability: str
    multiprocessors: int
    """Of the GPU: boards of one compute capability differ in it, and engines are tuned for one."""
    arch: str
    power_mode: str
    """Kernels are chosen by their times, which are others at other clocks."""
    flags: str
    """What was asked of the builder, as JSON."""

    @property
    def key(self) -> str:
        """The hash of it all, as the stage cache has them."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]

    @property
    def timing_key(self) -> str:
        """Of what the times of kernels depend on."""
        of = (self.tensorrt, self.compute_capability, self.multiprocessors, self.arch, self.power_mode)
        return hashlib.sha256(json.dumps(of).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class EngineCache:
    """Engines under one folder."""

    root: Path

    @classmethod
    def default(cls) -> EngineCache:
        """Below EDGEPRUNE_CACHE, else ~/.cache/edgeprune."""
        root = os.environ.get("EDGEPRUNE_CACHE")
        return cls((Path(root) if root else Path.home() / ".cache" / "edgeprune") / "tensorrt")

    def engine(self, identity: Identity) -> Path:
        """Where this engine lies, if it does."""
        return self.root / identity.key / ENGINE

    def timing(self, identity: Identity) -> Path:
        """Where the times of kernels lie, if they do."""
        return self.root / f"timing-{identity.timing_key}.cache"

    def get(self, identity: Identity, model_bytes: int, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """The engine, and whether it was found, not made: `make` leaves it at the path that it is given.

        One that is not what was written is made again. Only one build runs at a time on a device, for a second would
        disturb what the first one times. Raises OutputError where there is no room, before any work and after it.
        """
        try:
            with self._locked(identity):
                if not (found := self._has(identity)):
                    self._make(identity, model_bytes, make)
                return self.engine(identity), found
        except OSError as error:
            raise OutputError(
                f"{self.root}: the engine cannot be kept ({error.strerror}): make room or set EDGEPRUNE_CACHE=DIR"
            ) from error

    def _has(self, identity: Identity) -> bool:
        try:
            check_engine(self.engine(identity), identity)
        except EdgePruneError:
            return False
        return True

    def _make(self, identity: Identity, model_bytes: int, make: Callable[[Path], None]) -> None:
        self._refuse_full(2 * model_bytes + LEAST_ROOM)
        finished = self.engine(identity).parent
        partial = finished.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        begin = perf_counter()
        try:
            make(partial / ENGINE)
            _write_header(partial / ENGINE, identity, perf_counter() - begin)
            shutil.rmtree(finished, ignore_errors=True)
            partial.rename(finished)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    @contextmanager
    def _locked(self, identity: Identity) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "build.lock").open("ab") as one, (self.root / f"{identity.key}.lock").open("ab") as other:
            for lock in (one, other):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _refuse_full(self, needed: int) -> None:
        if (free := shutil.disk_usage(self.root).free) < needed:
            raise OutputError(
                f"{self.root}: {free >> 20} MB are free, building takes {needed >> 20}: make room or set"
                " EDGEPRUNE_CACHE=DIR"
            )


def check_engine(engine: Path, identity: Identity) -> None:
    """Refuse an engine that is not whole, or was built from another model or for anything else than what is here.

    Raises CorruptError where its header or bytes are missing or others, ModelError naming the first thing that differs.
    """
    header = engine.with_name(HEADER)
    try:
        told = json.loads(header.read_bytes())
        built, digest, size = told["identity"], told["sha256"], told["bytes"]
        known = told["schema"] == SCHEMA and built.keys() == asdict(identity).keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise CorruptError(f"{engine}: no header says what it was built for ({header.name}): remove it, {AGAIN}")
    for name, here in asdict(identity).items():
        if built[name] != here:
            raise ModelError(
                f"{engine}: built elsewhere: its {name} is {built[name]}, here it is {here}: remove it, {AGAIN}"
            )
    if (found := engine.stat().st_size if engine.is_file() else 0) != size:
        raise CorruptError(f"{engine}: {found} of {size} bytes: remove it, {AGAIN}")
    if sha256_of(engine) != digest:
        raise CorruptError(f"{engine}: not what was built (its hash differs): remove it, {AGAIN}")


def _write_header(engine: Path, identity: Identity, seconds: float) -> None:
    told = {
        "schema": SCHEMA,
        "identity": asdict(identity),
        "bytes": engine.stat().st_size,
        "sha256": sha256_of(engine),
        "seconds": round(seconds, 3),
    }
    engine.with_name(HEADER).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
