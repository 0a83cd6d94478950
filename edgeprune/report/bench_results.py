"""A folder of measurements: one JSON per target and bundle, and a README with one table over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edgeprune.bundle import Bundle
from edgeprune.errors import OutputError
from edgeprune.report.markdown import table
from edgeprune.report.source import README, TITLE, is_ours, may_be_measurement
from edgeprune.results import Measured, read_measured, write
from edgeprune.scenario import BUILT_IN, Scenario

HEADING = f"""{TITLE}
Latency is that of one input at a time, but where the heading names another scenario. Intervals are at 95 %; drop and
speed-up are against the bundle's own FP32 baseline, on the same samples and in rounds interleaved with it. Compare rows
of one machine only. The JSON files hold the timed samples and the machine.
"""


def check_out(bundles: Sequence[Bundle], out: Path, scenario: str = "") -> None:
    """Refuse, before anything is measured, a folder that `keep` could not write to, or not without loss.

    `scenario` is empty where the built-in loop measures.

    Raises OutputError where two bundles would become one file or a README of others would be replaced, CorruptError
    where a measurement kept there, and not about to be replaced, is damaged.
    """
    goals: dict[Path, Bundle] = {}
    for bundle in bundles:
        goal = _goal(out, bundle.root, bundle.core.target, scenario)
        if goal in goals:
            raise OutputError(f"{goals[goal].root} and {bundle.root} would both be kept as {goal}: rename a folder")
        goals[goal] = bundle
    try:
        if (out / README).exists() and not is_ours(out):
            raise OutputError(f"{out / README}: not written by `edgeprune bench`: choose another --out")
        for path in _kept(out):
            if path not in goals:
                read_measured(path)
    except OSError as error:
        raise OutputError(f"{out}: cannot be read ({error.strerror}): choose another --out") from error


def keep(measured: Measured, bundle: Path, out: Path) -> Path:
    """Write `<out>/<target>[-<scenario>]/<bundle's folder>.json`, and the README anew. Raises OutputError."""
    path = _goal(out, bundle, measured.baseline.target, _named(measured.baseline.scenario))
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


def _named(scenario: Scenario) -> str:
    """The scenario's name, empty where the built-in loop asked."""
    return "" if scenario.driver == BUILT_IN else scenario.name


def _goal(out: Path, bundle: Path, target: str, scenario: str) -> Path:
    """Each scenario has a folder, for its numbers are not to be read beside those of another."""
    folder = f"{target}-{scenario}" if scenario else target
    return out / folder / f"{bundle.resolve().name.removesuffix(f'-{target}')}.json"


def _kept(out: Path) -> list[Path]:
    """Every measurement in the folders of the targets."""
    return [path for path in sorted(out.glob("*/*.json")) if may_be_measurement(path)]


def _readme(out: Path) -> str:
    folders: dict[str, list[tuple[str, Measured]]] = {}
    for path in _kept(out):
        folders.setdefault(path.parent.name, []).append((path.stem, read_measured(path)))
    return "\n".join([HEADING, *(f"## {name}\n\n{table(found)}" for name, found in folders.items())])
