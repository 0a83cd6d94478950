"""What opening a bundle takes beyond reading and hashing its files, which it cannot do without.

    python benchmarks/bundle_open.py build/cnn-cpu build/resnet50-224

Both by turns in one process, files in the system's cache; at most 50 ms more are allowed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import click

from edgeprune.bundle import CORE, open_bundle
from edgeprune.cli.program import Program
from edgeprune.file_hash import sha256_of
from edgeprune.metrics import Interval, order_statistic_interval

MOST_MS = 50.0


@dataclass(frozen=True)
class Cost:
    """Milliseconds of the median turn."""

    hash_ms: float
    open_ms: float
    more: Interval | None
    """Of one turn; None for fewer than six."""


def cost(root: Path, turns: int) -> Cost:
    """Open a bundle and hash its files by turns, each first in every other one."""
    open_bundle(root)  # which imports what it needs, and fills the system's cache
    files = [root / CORE, *(root / name for name in open_bundle(root).core.sha256)]
    hashed, opened = [], []
    for turn in range(turns):
        for which in (0, 1) if turn % 2 else (1, 0):
            if which:
                opened.append(_ms(lambda: open_bundle(root)))
            else:
                hashed.append(_ms(lambda: [sha256_of(file) for file in files]))
    more = order_statistic_interval([one - other for one, other in zip(opened, hashed, strict=True)])
    return Cost(sorted(hashed)[turns // 2], sorted(opened)[turns // 2], more)


def _ms(work: Callable[[], object]) -> float:
    begin = perf_counter()
    work()
    return (perf_counter() - begin) * 1e3


@click.command(cls=Program)
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--turns", default=51, show_default=True, type=click.IntRange(min=6))
def main(bundles: tuple[Path, ...], turns: int) -> None:
    """Print a line for each bundle; end with 3 where one takes more than is allowed."""
    over = False
    for root in bundles:
        found = cost(root, turns)
        assert found.more is not None
        over |= found.more.estimate > MOST_MS
        megabytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6
        print(
            f"{root.name}: {megabytes:.1f} MB: hashing {found.hash_ms:.1f} ms, opening {found.open_ms:.1f} ms:"
            f" {found.more.estimate:.1f} ms more [{found.more.low:.1f}, {found.more.high:.1f}]"
        )
    sys.exit(3 if over else 0)


if __name__ == "__main__":
    main()
