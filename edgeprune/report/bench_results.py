"""A folder of measurements: one JSON per target and bundle, and a README with one table over all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from edgeprune.bundle import CORE, MEASURED, Bundle, Core, open_bundle
from edgeprune.errors import InputError, OutputError
from edgeprune.report.markdown import table
from edgeprune.results import Measured, read_measured, write

README = "README.md"
TITLE = "# Measured with `edgeprune bench`\n"
"""What a README of ours begins with."""
HEADING = f"""{TITLE}
Latency is that of one input at a time. Intervals are at 95 %; drop and speed-up are against the bundle's own FP32
baseline, on the same samples and in rounds interleaved with it. Compare rows of one machine only. The JSON files hold
the timed samples and the machine.
"""


def check_out(bundles: Sequence[Bundle], out: Path) -> None:
    """Refuse, before anything is measured, a folder that `keep` could not write to, or not without loss.

    Raises OutputError where two bundles would become one file or a README of others would be replaced, CorruptError
    where a measurement kept there, and not about to be replaced, is damaged.
    """
    goals: dict[Path, Bundle] = {}
    for bundle in bundles:
        goal = _goal(out, bundle.root, bundle.core.target)
        if goal in goals:
            raise OutputError(f"{goals[goal].root} and {bundle.root} would both be kept as {goal}: rename a folder")
        goals[goal] = bundle
    try:
        if (out / README).exists() and not _is_ours(out):
            raise OutputError(f"{out / README}: not written by `edgeprune bench`: choose another --out")
        for path in _kept(out):
            if path not in goals:
                read_measured(path)
    except OSError as error:
        raise OutputError(f"{out}: cannot be read ({error.strerror}): choose another --out") from error


def keep(measured: Measured, bundle: Path, out: Path) -> Path:
    """Write `<out>/<target>/<bundle's folder>.json`, and the README anew. Raises OutputError."""
    path = _goal(out, bundle, measured.baseline.target)
    keep_all([(path, measured)], out)
    return path


def keep_all(found: Iterable[tuple[Path, Measured]], out: Path) -> None:
    """Write measurements to their paths, `<out>/<folder>/<name>.json`, and then the README. Raises OutputError."""
    path = out
    try:
        for path, measured in found:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(measured, path)
        (out / README).write_text(_readme(out), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another --out") from error


def find(folders: Sequence[Path]) -> list[tuple[Core | None, Measured]]:
    """Every measured bundle and every kept measurement below the folders, in the order of their paths.

    Raises InputError where there is none.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder: name one that holds bundles or bench results")
    found = [pair for folder in folders for pair in _below(folder)]
    if not found:
        places = ", ".join(map(str, folders))
        raise InputError(f"{places}: nothing measured below: run `edgeprune compile` or `edgeprune bench` first")
    return found


def _below(folder: Path) -> Iterator[tuple[Core | None, Measured]]:
    if (folder / CORE).is_file():
        if (folder / MEASURED).is_file():
            yield open_bundle(folder).core, read_measured(folder / MEASURED)
        return
    kept = _is_ours(folder.parent)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _below(path)
        elif kept and _may_be_measurement(path):
            yield None, read_measured(path)


def _goal(out: Path, bundle: Path, target: str) -> Path:
    return out / target / f"{bundle.resolve().name.removesuffix(f'-{target}')}.json"


def _is_ours(out: Path) -> bool:
    readme = out / README
    return readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith(TITLE)


def _kept(out: Path) -> list[Path]:
    """Every measurement in the folders of the targets."""
    return [path for path in sorted(out.glob("*/*.json")) if _may_be_measurement(path)]


def _may_be_measurement(path: Path) -> bool:
    """Whether a file is a measurement, or one that is damaged; not JSON that others left there."""
    with suppress(ValueError):
        raw = json.loads(path.read_bytes()) if path.suffix == ".json" else None
        return isinstance(raw, dict) and {"baseline", "measurements"} <= raw.keys()
    return True


def _readme(out: Path) -> str:
    folders: dict[str, list[tuple[str, Measured]]] = {}
    for path in _kept(out):
        folders.setdefault(path.parent.name, []).append((path.stem, read_measured(path)))
    return "\n".join([HEADING, *(f"## {name}\n\n{table(found)}" for name, found in folders.items())])
