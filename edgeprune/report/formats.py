"""What a report is written as, by the suffix of its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgeprune.errors import InputError
from edgeprune.registry import require
from edgeprune.report.alike import check_alike, groups
from edgeprune.report.markdown import table
from edgeprune.report.merged import as_csv, as_parquet, rows
from edgeprune.report.saving import save
from edgeprune.report.source import Source

PAGES = (".html", ".md")
"""They have a table for each machine and scenario."""
TABLES = (".csv", ".parquet")
"""They are one table."""


def check_format(out: Path, *, apart: bool) -> None:
    """Raise InputError where there is no such format, or nothing to keep apart in it."""
    if out.suffix not in (*PAGES, *TABLES):
        raise InputError(f"{out}: a report is a file that ends in {', '.join((*PAGES, *TABLES))}")
    if apart and out.suffix in PAGES:
        raise InputError(f"--apart has no effect on {out}: it has a table for each machine and scenario anyway")


def write(sources: Sequence[Source], out: Path, *, apart: bool) -> dict[Path, int]:
    """Every file that was written, and how many bundles are in it.

    Raises InputError where a table would mix what was not measured alike; `apart`, each kind has a file of its own.
    """
    check_format(out, apart=apart)
    if out.suffix == ".html":
        require("jinja2", "matplotlib", extra="compile")
        from edgeprune.report.html import render  # both are imported there

        save(render(sources), out)
        return {out: len(sources)}
    if out.suffix == ".md":
        save(_markdown(sources), out)
        return {out: len(sources)}
    if out.suffix == ".parquet":
        require("pyarrow", extra="compile")
    if not apart:
        check_alike(sources)
        return _tables({out: sources}, out.suffix)
    kinds = groups(sources)
    return _tables({out.with_stem(f"{out.stem}-{i}"): kind.sources for i, kind in enumerate(kinds, 1)}, out.suffix)


def _tables(files: dict[Path, Sequence[Source]], suffix: str) -> dict[Path, int]:
    form: Callable[..., str | bytes] = as_csv if suffix == ".csv" else as_parquet
    for path, sources in files.items():
        save(form(rows(sources)), path)
    return {path: len(sources) for path, sources in files.items()}


def _markdown(sources: Sequence[Source]) -> str:
    parts = (
        f"## {kind.title}\n\n{table([(one.name, one.measured) for one in kind.sources])}" for kind in groups(sources)
    )
    return "\n".join(parts)
