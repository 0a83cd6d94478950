"""One self-contained HTML page about one or many bundles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from edgeprune.report.alike import Group, groups
from edgeprune.report.figures import Picture
from edgeprune.report.plots.tradeoff import overall
from edgeprune.report.section import Section, section
from edgeprune.report.source import Source
from edgeprune.report.summary import DECIDING, deciding
from edgeprune.report.worth import TITLES

FEW = 6
"""Bundles that a page tells everything of; of more it tells what can be compared."""
MOST_PICTURES = 4
"""That compare bundles, on one page."""


@dataclass(frozen=True)
class Overview:
    """Bundles that were measured alike, a row each."""

    title: str
    sections: tuple[tuple[int, Section], ...]
    """With the number of each on the page."""
    pictures: tuple[Picture, ...]


def render(sources: Sequence[Source]) -> str:
    """The page; a bundle without its core (a lone `measured.json`) lacks what only the core knows.

    Names of layers, machines and files come from elsewhere: all text is escaped.
    """
    sections = [section(source, detailed=len(sources) <= FEW) for source in sources]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    title = f"EdgePrune: {sections[0].subject}" if len(sections) == 1 else f"EdgePrune: {len(sections)} bundles"
    overviews = tuple(_overviews(sources, sections)) if len(sections) > 1 else ()
    return environment.get_template("page.html.j2").render(
        title=title, sections=sections, overviews=overviews, titles=TITLES, few=len(sections) <= FEW
    )


def _overviews(sources: Sequence[Source], sections: Sequence[Section]) -> Iterator[Overview]:
    numbers = {id(source): number for number, source in enumerate(sources)}
    left = MOST_PICTURES
    for group in groups(sources):
        rows = tuple((numbers[id(one)] + 1, sections[numbers[id(one)]]) for one in group.sources)
        drawn = tuple(_pictures(group))[:left]
        left -= len(drawn)
        yield Overview(group.title, rows, drawn)


def _pictures(group: Group) -> Iterator[Picture]:
    """The defaults of all that were judged by the same samples, with the baselines."""
    judged: dict[tuple[str, str], list[Source]] = {}
    for source in group.sources:
        split = source.core.splits.get(DECIDING) if source.core is not None else None
        accuracy = deciding(source.measured.baseline)
        if split is not None and accuracy is not None:
            judged.setdefault((split.sha256, accuracy.metric), []).append(source)
    for alike in sorted(judged.values(), key=len, reverse=True):
        svg = overall([(source.name, source.measured) for source in alike]) if len(alike) > 1 else None
        if svg is not None and (core := alike[0].core) is not None:
            data = core.recipe.get("data", {}).get("name", "the same samples")
            caption = "The default variant of each, and in grey the baselines. Up and to the left is better."
            yield Picture(f"{len(alike)} bundles on {data}", svg, caption)
