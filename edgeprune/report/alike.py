"""Which measurements may stand in one table: those of one machine with the same versions, under the same load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.adapter import adapter
from edgeprune.errors import InputError
from edgeprune.report.source import Source
from edgeprune.report.summary import environment_of
from edgeprune.results import PASSING, Measured, Measurement
from edgeprune.scenario import ALONE

MOST_DIFFERENCES = 4
"""That are told."""
DECIDING = {"environment", "scenario"}
"""Of a measurement."""


@dataclass(frozen=True)
class Group:
    """Measurements that may be compared."""

    title: str
    sources: tuple[Source, ...]


def groups(sources: Sequence[Source]) -> tuple[Group, ...]:
    """Those together that were measured alike, in the order of the first of each; titles tell them apart."""
    found: dict[tuple[tuple[str, str], ...], list[Source]] = {}
    for source in sources:
        found.setdefault(tuple(circumstances(source.measured).items()), []).append(source)
    plain = [_title(alike[0].measured) for alike in found.values()]
    return tuple(
        Group("; ".join([title, *_telling(dict(mine), title, [dict(other) for other in found], plain)]), tuple(alike))
        for (mine, alike), title in zip(found.items(), plain, strict=True)
    )


def check_alike(sources: Sequence[Source]) -> None:
    """Raise InputError, naming a file of each kind and what differs, unless all may stand in one table."""
    kinds: dict[tuple[tuple[str, str], ...], Source] = {}
    for source in sources:
        kinds.setdefault(tuple(circumstances(source.measured).items()), source)
    if len(kinds) < 2:
        return
    (first, of_first), (second, of_second) = list(kinds.items())[:2]
    differing = [f"{name} {a} / {b}" for name, a, b in different(dict(first), dict(second))]
    told = "; ".join(differing[:MOST_DIFFERENCES]) + "; ..." * (len(differing) > MOST_DIFFERENCES)
    raise InputError(
        f"{of_first.path} and {of_second.path} were not measured alike ({told}), {len(kinds)} kinds in all:"
        " give --apart for a table of each, or name folders of one kind"
    )


def circumstances(measured: Measured) -> dict[str, str]:
    """All that must be equal for two measurements to be compared, by name."""
    records = (measured.baseline, *measured.measurements)
    timed = next((record for record in records if record.environment is not None), None)
    if timed is None:
        return {"measured": f"no: {measured.baseline.unmeasured or 'not run'}", "target": measured.baseline.target}
    told = adapter(Measurement).dump_python(
        timed, mode="json", exclude_none=True, include=DECIDING, exclude={"environment": set(PASSING)}
    )
    return {"measured": "yes"} | {name.removeprefix("environment."): value for name, value in _flat(told)}


def different(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What differs between two flat records, by name; None where one has no such thing."""
    return ((name, a.get(name), b.get(name)) for name in {**a, **b} if a.get(name) != b.get(name))


def _flat(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _title(measured: Measured) -> str:
    environment = environment_of(measured)
    if environment is None:
        return f"{measured.baseline.target}, not measured: {measured.baseline.unmeasured or 'not run'}"
    load = "" if measured.baseline.scenario == ALONE else f"; {measured.baseline.scenario}"
    return f"{environment.machine}, {environment.threads} thread{'s' * (environment.threads != 1)}{load}"


def _telling(
    mine: Mapping[str, str], title: str, every: Sequence[Mapping[str, str]], titles: Sequence[str]
) -> list[str]:
    """What tells a group from those of the same title."""
    namesakes = [other for other, one in zip(every, titles, strict=True) if one == title]
    names = dict.fromkeys(name for other in namesakes for name, *_ in different(mine, other))
    told = [f"{name.removeprefix('versions.')} {mine.get(name, 'none')}" for name in names]
    return told[:MOST_DIFFERENCES]
