"""Tell which operator of a graph each kernel's time belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence


def attributed(kernels: Iterable[tuple[Sequence[str], float]], parts: Mapping[str, str]) -> dict[str, float]:
    """Microseconds by operator, from each kernel's possible names, the likeliest first, and time, in executed order.

    `parts` gives the operator of each name in the graph. A kernel without any of them (a change of layout, mostly)
    belongs to the one that ran before it, and before any is known, to the first.
    """
    found: dict[str, float] = defaultdict(float)
    early, last = 0.0, ""
    for names, us in kernels:
        last = next((parts[name] for name in names if name in parts), last)
        if last:
            found[last] += us + early
            early = 0.0
        else:
            early += us
    return dict(found)
