"""Which rows train, calibrate, select and report, resolved from a recipe and proven disjoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from edgeprune.bundle import Split
from edgeprune.data.calibration import load_calibration, verify
from edgeprune.data.datasets import describe, digests, labels, read, source_of
from edgeprune.data.encoded import Resizing
from edgeprune.data.info import DatasetInfo
from edgeprune.data.pixels import Pixels
from edgeprune.data.preparing import described, preprocessing
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.samples import Samples
from edgeprune.errors import ConfigError, DataError, MissingError
from edgeprune.recipe import DataPart, Rows
from edgeprune.user_code import UserFunction, load_function

JUDGES = ("calibrate", "select", "report")
CHUNK = 256
"""Samples that are read at once where not all are needed at the same time."""
MOST_COPIES = 0.05
"""Share of a split that may be copies of samples of another; more is a mistake, not an accident."""


@dataclass(frozen=True)
class Splits:
    """The rows of each split, and a hash for each sample in them."""

    info: DatasetInfo
    preprocess: Preprocess
    observer: str
    """Which observer the calibration set asks for."""
    rows: dict[str, Rows]
    digests: dict[str, tuple[str, ...]]
    """Of the samples that are used."""
    left_out: dict[str, frozenset[int]]
    """Numbers, within the rows, of samples that are not used: a split that judges them holds a copy."""
    metric: UserFunction | None = None
    """The user's own, which scores in place of the data set's."""

    def samples(self, split: str) -> Samples:
        """All of a split at once. Raises DataError where there are no rows for it."""
        if split not in self.rows:
            raise DataError(f"{self.info.name}: no rows for {split} are at hand: say in a recipe which, or get them")
        samples = read(self.rows[split], self.info, resize=self._resize)
        return samples.part(self._kept(split)) if self.left_out.get(split) else samples

    def batches(self, split: str, size: int = CHUNK) -> Iterator[Samples]:
        """All of a split in order, a part at a time; only images, which are large decoded, are read by parts."""
        if not isinstance(self.preprocess, Pixels):
            samples = self.samples(split)
            yield from (samples.part(slice(start, start + size)) for start in range(0, len(samples), size))
            return
        rows, without = self.rows[split], self.left_out.get(split, frozenset())
        stored = len(self.digests[split]) + len(without)
        for before in range(0, stored, size):
            start, stop = rows.start + before, rows.start + min(before + size, stored)
            part = read(rows.model_copy(update={"start": start, "stop": stop}), self.info, resize=self._resize)
            kept = [row for row in range(len(part)) if before + row not in without]
            if kept:
                yield part if len(kept) == len(part) else part.part(kept)

    def first(self, split: str, count: int) -> Samples:
        """The first samples of a split."""
        return next(self.batches(split, max(count + len(self.left_out.get(split, ())), 1))).part(slice(count))

    def labels(self, split: str) -> NDArray[np.generic] | None:
        """The right answers [N] of a split; None where it is not labelled."""
        found = labels(self.rows[split], self.info)
        return found if found is None else found[self._kept(split)]

    def fingerprint(self, split: str) -> str:
        """Hash over a split's samples in order: what a cached stage depends on."""
        return hashlib.sha256("".join(self.digests[split]).encode()).hexdigest()

    def record(self) -> dict[str, Split]:
        """What the bundle keeps of each split."""
        return {
            name: Split(
                _portable(rows), len(self.digests[name]), self.fingerprint(name), len(self.left_out.get(name, ()))
            )
            for name, rows in self.rows.items()
        }

    @property
    def reported(self) -> tuple[str, ...]:
        """Splits whose accuracy is shown, the deciding one first."""
        return tuple(name for name in self.rows if name not in {"train", "calibrate"})

    @property
    def _resize(self) -> Resizing | None:
        return self.preprocess.resize if isinstance(self.preprocess, Pixels) else None

    def _kept(self, split: str) -> NDArray[np.int64]:
        without = self.left_out.get(split, frozenset())
        return np.array([row for row in range(len(self.digests[split]) + len(without)) if row not in without], np.int64)


def resolve_splits(
    part: DataPart, *, trains: bool, preprocess: Preprocess | None = None, judges_only: bool = False
) -> Splits:
    """Rows as the recipe says, else as the data set's own; `trains`: weights are to be trained on the train split.

    `preprocess`: what a bundle does to samples, whatever the recipe said when it was made; `judges_only`: nothing is to
    be trained or calibrated. A sample that two splits hold is left out of the one that is further from the report.
    Raises ConfigError where a split is nowhere given or what the recipe says of samples does not apply, DataError where
    rows overlap that must not or a split's samples are not those of the data set.
    """
    info = described(part, preprocess)
    needed = JUDGES[1:] if judges_only else JUDGES
    roles = needed if judges_only else ("train", *JUDGES)
    rows = {name: chosen for name in roles if (chosen := getattr(part, name) or info.splits.get(name))}
    also = part.also_report or {
        name: more for name, more in info.splits.items() if name not in ("train", *JUDGES) and part.report is None
    }
    rows |= also
    preprocess = preprocess or preprocessing(part, info)
    metric = None if part.metric is None else load_function(part.metric, "metric")
    observer = "minmax"
    calibration = part.calibration or (info.calibration if part.calibrate is None else None)
    if calibration is not None and "calibrate" in needed:
        chosen_set = load_calibration(calibration)
        if chosen_set.data != part.name and calibration != info.calibration:
            raise DataError(
                f"calibration set {calibration} is of {chosen_set.data}, the data are {part.name}: use its own"
            )
        verify(chosen_set, info)
        rows["calibrate"], observer = chosen_set.rows, chosen_set.observer
    if missing := [name for name in needed if name not in rows]:
        raise ConfigError(f"data {part.name}: no rows for {', '.join(missing)}: give them in the recipe under `data:`")
    _assert_one_kind(info, preprocess, rows)
    judges = ["report", *also, "select", "calibrate"]
    _assert_disjoint(rows, [*combinations(judges, 2), *(("train", judge) for judge in judges[:-1] if trains)])
    if not trains and part.train is None:
        rows = _without_missing(rows, "train", info)
    hashes = {name: digests(chosen, info) for name, chosen in rows.items()}
    left_out = _copies(hashes, judges, trains)
    used = {
        name: tuple(one for row, one in enumerate(found) if row not in left_out.get(name, ()))
        for name, found in hashes.items()
    }
    return Splits(info, preprocess, observer, rows, used, left_out, metric)


def _without_missing(rows: dict[str, Rows], split: str, info: DatasetInfo) -> dict[str, Rows]:
    """Training rows that are not at hand are not missed where nothing is trained."""
    if split not in rows:
        return rows
    try:
        labels(rows[split].model_copy(update={"stop": rows[split].start + 1}), info)
    except (DataError, MissingError):
        return {name: chosen for name, chosen in rows.items() if name != split}
    return rows


def _assert_disjoint(rows: dict[str, Rows], pairs: list[tuple[str, str]]) -> None:
    """Training, calibrating or choosing on a sample that is reported would flatter the result."""
    for a, b in pairs:
        if a not in rows or b not in rows or rows[a].source != rows[b].source:
            continue
        start = max(rows[a].start, rows[b].start)
        if all(one.stop is None or start < one.stop for one in (rows[a], rows[b])):
            raise DataError(f"splits {a} ({rows[a]}) and {b} ({rows[b]}) share rows from {start} on: choose others")


def _copies(hashes: dict[str, tuple[str, ...]], judges: list[str], trains: bool) -> dict[str, frozenset[int]]:
    """Per split the rows that a judge before it holds, too; training and calibration may share theirs.

    Raises DataError where they are too many for an accident.
    """
    left_out: dict[str, frozenset[int]] = {}
    seen: set[str] = set()
    for name in [*judges, "train"]:
        found = hashes.get(name, ())
        without = seen if name != "train" else {one for judge in judges[:-1] for one in hashes.get(judge, ())}
        copies = frozenset(row for row, one in enumerate(found) if one in without)
        if len(copies) > MOST_COPIES * len(found) and (trains or name != "train"):
            raise DataError(
                f"split {name}: {len(copies)} of its {len(found)} samples, first number {min(copies)}, are also in a"
                " split that judges them: choose rows that do not overlap, and leave copies out"
            )
        if copies:
            left_out[name] = copies
        seen |= set(found)
    return left_out


def _assert_one_kind(info: DatasetInfo, preprocess: Preprocess, rows: dict[str, Rows]) -> None:
    """A split from another source must hold samples of the same kind."""
    for source in {source_of(chosen)[0] for chosen in rows.values()} - {info.name}:
        other = describe(source)
        if other.columns != info.columns:
            raise DataError(
                f"{source} has {', '.join(other.columns)}, {info.name} {', '.join(info.columns)}: splits must agree"
            )
        if (other.classes, other.task) != (info.classes, info.task):
            raise DataError(
                f"{source} has the classes {', '.join(other.classes) or 'none'}, {info.name}"
                f" {', '.join(info.classes) or 'none'}: splits must agree"
            )
        if isinstance(preprocess, Pixels) and preprocess.resize is None:
            shapes = [one.shape for one in (other.preprocess, info.preprocess) if isinstance(one, Pixels)]
            if len(set(shapes)) > 1:
                raise DataError(
                    f"{source} has images {list(shapes[0])}, {info.name} {list(shapes[1])}: splits must agree"
                )


def _portable(rows: Rows) -> str:
    """The rows without the path of the machine they lie on."""
    return str(rows).rsplit("/", 1)[-1]
