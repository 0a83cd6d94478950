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


def resolve_splits(part: DataPart, *, trains: bool) -> Splits:
    """Rows as the recipe says, else as the data set's own; `trains`: weights are to be trained on the train split.

    Raises ConfigError where a split is nowhere given or the normalization has another number of channels, DataError
    where splits that must not share a sample do, or a split's images are not those of the data set.
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
        if chosen_set.data != part.name and calibration != info.calibration:
            raise DataError(
                f"calibration set {calibration} is of {chosen_set.data}, the data are {part.name}: use its own"
            )
        verify(chosen_set)
        rows["calibrate"], observer = chosen_set.rows, chosen_set.observer
    if missing := [name for name in JUDGES if name not in rows]:
        raise ConfigError(f"data {part.name}: no rows for {', '.join(missing)}: give them in the recipe under `data:`")
    _assert_one_shape(info, rows)
    hashes = {name: digests(chosen) for name, chosen in rows.items()}
    judges = sorted({*JUDGES, *also})
    pairs = list(combinations(judges, 2))
    if trains:  # calibration may use training rows: it chooses nothing and reports nothing
        pairs += [("train", judge) for judge in judges if judge != "calibrate"]
    _assert_disjoint(hashes, pairs)
    preprocess = info.preprocess
    if part.normalize is not None:
        if not len(part.normalize.mean) == len(part.normalize.std) == info.shape[2]:
            raise ConfigError(f"data.normalize: {part.name} has {info.shape[2]} channels: give as many means and stds")
        preprocess = Preprocess(preprocess.levels, part.normalize.mean, part.normalize.std)
    return Splits(info, preprocess, observer, rows, hashes)


def _assert_disjoint(hashes: dict[str, tuple[str, ...]], pairs: Iterable[tuple[str, str]]) -> None:
    """Training, calibrating or choosing on a sample that is reported would flatter the result."""
    for a, b in pairs:
        if a in hashes and (shared := set(hashes[a]) & set(hashes[b])):
            first = min(shared)
            raise DataError(
                f"splits {a} and {b} share {len(shared)} samples, first {a}[{hashes[a].index(first)}] and"
                f" {b}[{hashes[b].index(first)}]: choose rows that do not overlap, and leave copies out"
            )


def _assert_one_shape(info: DatasetInfo, rows: dict[str, Rows]) -> None:
    """A split from another source must hold images of the same kind."""
    for source in {chosen.source.rpartition(":")[0] for chosen in rows.values()} - {info.name}:
        if (shape := describe(source).shape) != info.shape:
            raise DataError(f"{source} has images {list(shape)}, {info.name} {list(info.shape)}: splits must agree")


def _portable(rows: Rows) -> str:
    """The rows without the path of the machine they lie on."""
    return str(rows).rsplit("/", 1)[-1]
