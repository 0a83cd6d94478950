"""How many bytes a second are read, or copied, from each level of the memory: NumPy over arrays of many sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

TINY = 16
"""Numbers, of which an operation takes but what NumPy takes to begin."""
LEAST_RUNS = 5


def bandwidth(sizes: Sequence[int], threads: int, seconds: float = 0.03) -> list[float]:
    """Bytes per second for each working set in bytes: the fastest of many runs of the faster of two operations.

    A maximum reads every byte once, a copy reads one half and writes the other. NumPy lets other threads run in both,
    so that each works through a part of its own.
    """
    with ThreadPoolExecutor(threads) as pool:
        return [max(_rate(kind, size, threads, pool, seconds) for kind in (_reading, _copying)) for size in sizes]


def _rate(
    kind: Callable[[int], Callable[[], object]], size: int, threads: int, pool: ThreadPoolExecutor, seconds: float
) -> float:
    works = [kind(size // threads) for _ in range(threads)]
    begins = [kind(TINY * 8) for _ in range(threads)]
    return size / max(_fastest(works, pool, seconds) - _fastest(begins, pool, seconds / 3), 1e-9)


def _fastest(works: Sequence[Callable[[], object]], pool: ThreadPoolExecutor, seconds: float) -> float:
    """Seconds in which all are done once, by turns in this thread where there is but one."""
    if len(works) == 1:
        return _times(works[0], seconds)
    return max(pool.map(lambda work: _times(work, seconds), works))


def _times(work: Callable[[], object], seconds: float) -> float:
    fastest, runs, stop = float("inf"), 0, perf_counter() + seconds
    while runs < LEAST_RUNS or perf_counter() < stop:
        begin = perf_counter()
        work()
        fastest = min(fastest, perf_counter() - begin)
        runs += 1
    return fastest


def _reading(size: int) -> Callable[[], object]:
    return np.ones(max(1, size // 4), np.float32).max


def _copying(size: int) -> Callable[[], object]:
    source = np.ones(max(1, size // 8), np.float32)
    goal = np.empty_like(source)
    return lambda: np.copyto(goal, source)
