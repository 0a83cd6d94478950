"""Which rows train, calibrate, select and report, resolved from a recipe and proven disjoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from edgeprune.bundle import Split
from edgeprune.data.calibration import load_calibration, verify
from edgeprune.data.datasets import DatasetInfo, describe, digests
from edgeprune.data.preprocess import Preprocess
from edgeprune.errors import ConfigError, DataError
from edgeprune.recipe import DataPart, Rows

JUDGES = ("calibrate", "select", "report")


@dataclass(frozen=True)
class Splits:
    """The rows of each split, and a hash for each sample in them."""

    info: DatasetInfo
    preprocess: Preprocess
    observer: str
    """Which observer the calibration set asks for."""
    rows: dict[str, Rows]
    digests: dict[str, tuple[str, ...]]

    def fingerprint(self, split: str) -> str:
        """Hash over a split's samples in order: what a cached stage depends on."""
        return hashlib.sha256("".join(self.digests[split]).encode()).hexdigest()

    def record(self) -> dict[str, Split]:
        """What the bundle keeps of each split."""
        return {
            name: Split(_portable(rows), len(self.digests[name]), self.fingerprint(name))
            for name, rows in self.rows.items()
        }

    @property
    def reported(self) -> tuple[str, ...]:
        """Splits whose accuracy is shown, the deciding one first."""
        return tuple(name for name in self.rows if name not in {"train", "calibrate"})


def resolve_splits(part: DataPart) -> Splits:
    """Rows as the recipe says, else as the data set's own.

    Raises ConfigError where a split is nowhere given, DataError where two splits that judge share a sample.
    """
    info = describe(part.name)
    rows = {name: chosen for name in ("train", *JUDGES) if (chosen := getattr(part, name) or info.splits.get(name))}
    also = part.also_report or {
        name: more for name, more in info.splits.items() if name not in rows and part.report is None
    }
    rows |= also
    observer = "minmax"
    calibration = part.calibration or (info.calibration if part.calibrate is None else None)
    if calibration is not None:
        chosen_set = load_calibration(calibration)
        verify(chosen_set)
        rows["calibrate"], observer = chosen_set.rows, chosen_set.observer
    if missing := [name for name in JUDGES if name not in rows]:
        raise ConfigError(f"data {part.name}: no rows for {', '.join(missing)}: give them in the recipe under `data:`")
    hashes = {name: digests(chosen) for name, chosen in rows.items()}
    _assert_disjoint(hashes, {*JUDGES, *also})
    preprocess = info.preprocess
    if part.normalize is not None:
        preprocess = Preprocess(preprocess.levels, part.normalize.mean, part.normalize.std)
    return Splits(info, preprocess, observer, rows, hashes)


def _assert_disjoint(hashes: dict[str, tuple[str, ...]], judges: Iterable[str]) -> None:
    """Calibrating, choosing and reporting on one sample would flatter the result."""
    for a, b in combinations(sorted(judges), 2):
        if shared := set(hashes[a]) & set(hashes[b]):
            raise DataError(f"splits {a} and {b} share {len(shared)} samples: choose rows that do not overlap")


def _portable(rows: Rows) -> str:
    """The rows without the path of the machine they lie on."""
    return str(rows).rsplit("/", 1)[-1]
