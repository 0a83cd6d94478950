"""What observers have seen so far, in one file: a killed calibration goes on from it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.progress import SILENT, Progress
from edgeprune.quantize.observers.observer import Observer
from edgeprune.whole_file import whole

ABOUT = "about"
"""The entry that holds JSON; the others are `<number of the observer>/<name in its state>`."""


@dataclass
class Seen:
    """How far a calibration got."""

    observers: dict[str, Observer]
    """By the value that each observes."""
    batches: int = 0
    samples: int = 0


def save(file: Path, seen: Seen, job: Mapping[str, Any]) -> None:
    """Write it so that it appears whole. `job`: what it was made for, as JSON values."""
    counts = {"batches": seen.batches, "samples": seen.samples}
    about = json.dumps({"job": job, "values": list(seen.observers), **counts})
    arrays = {ABOUT: np.frombuffer(about.encode(), np.uint8)}
    for number, observer in enumerate(seen.observers.values()):
        arrays |= {f"{number}/{name}": array for name, array in observer.state().items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    with whole(file) as partial:
        partial.write_bytes(buffer.getvalue())


def load(
    file: Path, values: Iterable[str], new: Callable[[], Observer], job: Mapping[str, Any], progress: Progress = SILENT
) -> Seen | None:
    """What was saved, in `new` observers of these values; None where there is nothing that can be used."""
    if not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        about = json.loads(arrays.pop(ABOUT).tobytes())
        if (about["job"], about["values"]) != (job, list(values)):
            progress.say(f"{file}: made for another calibration: it starts anew")
            return None
        seen = Seen({value: new() for value in values}, int(about["batches"]), int(about["samples"]))
        for number, observer in enumerate(seen.observers.values()):
            prefix = f"{number}/"
            state = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            observer.restore(state)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        progress.say(f"{file}: torn or damaged ({type(error).__name__}): calibration starts anew")
        return None
    return seen
