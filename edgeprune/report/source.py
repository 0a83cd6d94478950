"""What a report is made of: measurements, and what the bundle they are of says of itself, found below folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeprune.bundle import CORE, MEASURED, Bundle, Core, open_bundle
from edgeprune.decisions import PREDICTED, TRIED, Predicted, TriedPlan, read_predicted, read_tried
from edgeprune.errors import CorruptError, InputError
from edgeprune.results import Measured, read_measured

README = "README.md"
TITLE = "# Measured with `edgeprune bench`\n"
"""What a README of ours begins with."""


@dataclass(frozen=True)
class Source:
    """The measurements of one bundle; a lone file of them lacks what only the bundle knows."""

    measured: Measured
    core: Core | None = None
    path: Path | None = None
    """The file with the measurements, where they were read from one."""
    predicted: Predicted | None = None
    tried: tuple[TriedPlan, ...] = ()

    @property
    def name(self) -> str:
        """What its folder or file is called; its model where it lies in none."""
        if self.path is None:
            return self.measured.baseline.model
        return self.path.parent.resolve().name if self.path.name == MEASURED else self.path.stem


def source_of(bundle: Bundle, measured: Measured) -> Source:
    """A bundle and its measurements."""
    return Source(measured, bundle.core, bundle.measured_path, read_predicted(bundle.root), read_tried(bundle.root))


def find(folders: Sequence[Path]) -> list[Source]:
    """Every measured bundle and every kept measurement below the folders, in the order of their paths, each once.

    Of a bundle only the files that a report reads are verified. Raises InputError where there is none, CorruptError
    naming those that cannot be read: damaged, of another schema, or of another bundle than they lie in.
    """
    found: dict[Path, Source] = {}
    damaged: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder: name one that holds bundles or bench results")
        for path in _below(folder):
            if path.resolve() in found:
                continue
            try:
                found[path.resolve()] = _read(path)
            except CorruptError as error:
                damaged.append(str(error))
    if damaged:
        more = f" (and {len(damaged) - 1} more: {'; '.join(damaged[1:3])}{'; ...' * (len(damaged) > 3)})"
        raise CorruptError(damaged[0] + more * (len(damaged) > 1))
    if not found:
        places = ", ".join(map(str, folders))
        raise InputError(f"{places}: nothing measured below: run `edgeprune compile` or `edgeprune bench` first")
    return list(found.values())


def is_ours(out: Path) -> bool:
    """Whether a folder is one that `edgeprune bench` keeps measurements in."""
    readme = out / README
    return readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith(TITLE)


def may_be_measurement(path: Path) -> bool:
    """Whether a file is a measurement, or one that is damaged; not JSON that others left there."""
    with suppress(ValueError):
        raw = json.loads(path.read_bytes()) if path.suffix == ".json" else None
        return isinstance(raw, dict) and {"baseline", "measurements"} <= raw.keys()
    return True


def _below(folder: Path) -> Iterator[Path]:
    """The files with measurements."""
    if (folder / CORE).is_file():
        if (folder / MEASURED).is_file():
            yield folder / MEASURED
        return
    kept = is_ours(folder.parent)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _below(path)
        elif kept and may_be_measurement(path):
            yield path


def _read(path: Path) -> Source:
    measured = read_measured(path)
    if path.name != MEASURED or not (path.parent / CORE).is_file():
        return Source(measured, path=path)
    bundle = open_bundle(path.parent, only=(PREDICTED, TRIED))
    if measured.baseline.bundle != bundle.sha256:
        raise CorruptError(f"{path}: of another bundle than the one it lies in: run `edgeprune bench {bundle.root}`")
    return source_of(bundle, measured)
