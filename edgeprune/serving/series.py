"""A run over time: what came, what waited, what served, how long it took, and what the machine did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeprune.serving.replay import Replayed

STEP_S = 0.1


def series(run: Replayed, step_s: float = STEP_S) -> Iterator[dict[str, Any]]:
    """One row per step, JSON-ready. A request counts in the step in which it was served, an arrival in its own.

    `precision` is the one that served most; None where none was served. The machine's condition is the last that was
    read until then.
    """
    served, arrived = (run.end_s / step_s).astype(np.int64), (run.trace.arrivals_s / step_s).astype(np.int64)
    count = int(max(served[-1], arrived[-1])) + 1
    arrivals = np.bincount(arrived, minlength=count)
    bounds = np.searchsorted(served, np.arange(count + 1))
    latency_ms, missed, samples, newest = run.latency_ms, run.missed, iter(run.samples), None
    following = next(samples, None)
    for i in range(count):
        while following is not None and following.at_s < (i + 1) * step_s:
            newest, following = following, next(samples, None)
        rows = slice(bounds[i], bounds[i + 1])
        any_served = bounds[i + 1] > bounds[i]
        shares = np.bincount(run.rungs[rows], minlength=len(run.precisions))
        yield {
            "t_s": round(i * step_s, 3),
            "arrivals_per_s": round(int(arrivals[i]) / step_s, 3),
            "served": int(shares.sum()),
            "queue": int(run.queue[rows].max()) if any_served else 0,
            "precision": run.precisions[int(shares.argmax())] if any_served else None,
            "by_precision": dict(zip(run.precisions, shares.tolist(), strict=True)),
            "latency_ms_median": round(float(np.median(latency_ms[rows])), 4) if any_served else None,
            "latency_ms_max": round(float(latency_ms[rows].max()), 4) if any_served else None,
            "missed": int(missed[rows].sum()),
            "cpu": newest.condition.cpu if newest else None,
            "gpu": newest.condition.gpu if newest else None,
            "headroom_bytes": newest.condition.headroom_bytes if newest else None,
            "temperature_c": newest.condition.temperature_c if newest else None,
            "throttled": newest.condition.throttled if newest else None,
            "watts": newest.watts if newest else None,
        }
