"""A folder of measurements: one JSON per target and bundle, and a README with one table over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeprune.bundle import CORE, MEASURED, Core, open_bundle
from edgeprune.errors import InputError, OutputError
from edgeprune.report.markdown import table
from edgeprune.results import Measured, read_measured, write

README = "README.md"
HEADING = """# Measured with `edgeprune bench`

Latency is that of one input at a time. Intervals are at 95 %; drop and speed-up are against the bundle's own FP32
baseline, on the same samples and in rounds interleaved with it. Compare rows of one machine only. The JSON files hold
every sample and the machine.
"""


def keep(measured: Measured, bundle: Path, out: Path) -> Path:
    """Write `<out>/<target>/<bundle's folder>.json`, and the README anew. Raises OutputError."""
    target = measured.baseline.target
    name = bundle.resolve().name.removesuffix(f"-{target}")
    path = out / target / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(measured, path)
        (out / README).write_text(_readme(out), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another --out") from error
    return path


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
    readme = folder.parent / README
    kept = readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith(HEADING)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _below(path)
        elif kept and path.suffix == ".json":
            yield None, read_measured(path)


def _readme(out: Path) -> str:
    sections = [HEADING]
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        if files := sorted(folder.glob("*.json")):
            sections.append(f"## {folder.name}\n\n{table([(path.stem, read_measured(path)) for path in files])}")
    return "\n".join(sections)
