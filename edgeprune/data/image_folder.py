"""Images in folders named after their class: `DIR/<class>/*.png` or `DIR/<split>/<class>/*.png`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune.data.cells import Cells
from edgeprune.errors import DataError
from edgeprune.tensor import IMAGE

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
UNSPLIT = "all"


@dataclass(frozen=True)
class Listing:
    """The images under a folder."""

    classes: tuple[str, ...]
    splits: dict[str, tuple[tuple[Path, int], ...]]
    """File and label; ordered by the hash of the file's path, so that any range holds all classes mixed."""


def scan(folder: Path) -> Listing:
    """List what is there; no image is opened. Raises DataError where the layout is neither of the two."""
    files = [file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()]
    layout = f"expected {folder}/<class>/*.png or {folder}/<split>/<class>/*.png (also jpg, webp, bmp)"
    if not files:
        raise DataError(f"{folder}: no images and no Parquet files: {layout}")
    parts = {file: file.relative_to(folder).parts for file in files}
    depth = Counter(map(len, parts.values())).most_common(1)[0][0]
    for file in files:
        if depth not in (2, 3) or len(parts[file]) != depth:
            raise DataError(f"{file}: not where an image is looked for: {layout}")
    classes = tuple(sorted({part[-2] for part in parts.values()}))
    splits: dict[str, list[tuple[Path, int]]] = {}
    for file in sorted(files, key=lambda file: hashlib.sha256("/".join(parts[file]).encode()).digest()):
        split = UNSPLIT if depth == 2 else parts[file][0]
        splits.setdefault(split, []).append((file, classes.index(parts[file][-2])))
    return Listing(classes, {name: tuple(rows) for name, rows in sorted(splits.items())})


def read(rows: Sequence[tuple[Path, int]]) -> Cells:
    """Read listed files. Raises DataError naming the one that cannot be read."""
    images = []
    for file, _ in rows:
        try:
            images.append(file.read_bytes())
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    return Cells({IMAGE: images, "label": [label for _, label in rows]}, [str(file) for file, _ in rows])
