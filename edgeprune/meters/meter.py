"""What an energy sensor can do, and how the one of this machine is found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from edgeprune.errors import MissingError
from edgeprune.meters import METERS
from edgeprune.meters.command import VARIABLE
from edgeprune.registry import resolve


class Meter(Protocol):
    """A sensor that counts; its constructor raises MissingError with the reason where it cannot."""

    sensor: str
    """What is counted and by what, e.g. `RAPL package-0`."""
    sampling_hz: float | None
    """How often the counter moves."""

    def energy_j(self) -> float:
        """Joules since it was opened. Call it at least once per wrap of the counter.

        Raises MissingError where it has failed since.
        """
        ...

    def close(self) -> None:
        """Stop whatever reads."""
        ...


def detect(names: Sequence[str]) -> Meter:
    """The first of `names` that works here; before them the user's own command, where there is one.

    Raises MissingError with every reason where none does.
    """
    reasons = []
    for name in (*(["command"] if os.environ.get(VARIABLE) else []), *names):
        try:
            meter: Meter = resolve(METERS, name, "meter")()
        except MissingError as error:
            reasons.append(str(error))
        else:
            return meter
    raise MissingError("; ".join(reasons) or "the target file names no meter")
