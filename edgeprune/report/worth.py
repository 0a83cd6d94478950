"""What a bundle's default variant is worth beside its baseline, in five values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeprune.metrics import Interval
from edgeprune.report.summary import (
    ABSENT,
    KB,
    aligned,
    deciding,
    default,
    percent,
    percent_of,
    points,
    ratio,
    unit_of_time,
)
from edgeprune.results import MB, Measured

TITLES = ("speed-up", "latency p50", "size", "accuracy", "points lost")


@dataclass(frozen=True)
class Value:
    """A number, and below it what it must be read with."""

    text: str
    below: str = ""


def worth(measured: Measured) -> dict[str, Value]:
    """By title, the same titles for every bundle; nothing where there is no default variant."""
    chosen = default(measured)
    if chosen is None:
        return {}
    values = dict.fromkeys(TITLES, Value(ABSENT))
    if chosen.speedup is not None:
        values["speed-up"] = Value(ratio(chosen.speedup.estimate), bounds(chosen.speedup, "{:.2f}".format))
    if (p50 := chosen.percentile_ms(50)) is not None:
        unit, per_ms = unit_of_time(measured)
        ends = chosen.percentile_interval_ms(50)
        told = " to ".join(aligned([ends.low * per_ms, ends.high * per_ms])) if ends is not None else ""
        values["latency p50"] = Value(f"{aligned([p50 * per_ms])[0]} {unit}", told)
    values["size"] = Value(percent_of(chosen.size_bytes, measured.baseline.size_bytes), size_of(chosen.size_bytes))
    if (accuracy := deciding(chosen)) is not None:
        told = "same as FP32" if accuracy.metric == "agreement" else bounds(accuracy.value, percent)
        how = "" if accuracy.source == "measured" else ", simulated"
        values["accuracy"] = Value(f"{percent(accuracy.value.estimate)} %", told + how)
        if accuracy.drop is not None:
            values["points lost"] = Value(points(accuracy.drop.estimate), bounds(accuracy.drop, points))
    return values


def size_of(size_bytes: int) -> str:
    """A size in words."""
    return f"{size_bytes / MB:,.1f} MB" if size_bytes >= 10 * MB else f"{size_bytes / KB:,.1f} kB"


def bounds(interval: Interval, say: Callable[[float], str]) -> str:
    """An interval in words."""
    return f"{say(interval.low)} to {say(interval.high)}"
