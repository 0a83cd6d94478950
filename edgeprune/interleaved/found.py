"""What a run has found out about one variant so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from edgeprune.bundle import Variant
from edgeprune.errors import DeviceError, EdgePruneError
from edgeprune.results import Energy, Layer


@dataclass
class Found:
    """What is known of one variant so far."""

    variant: Variant
    is_baseline: bool
    unmeasured: str = ""
    failed: bool = False
    rounds: list[list[list[float]]] = field(default_factory=list)  # milliseconds: [restart][round][inference or query]
    samples_per_s: list[float] = field(default_factory=list)  # by restart, where LoadGen counts them
    driver: str = ""
    load_ms: list[float] = field(default_factory=list)
    compiled: list[tuple[float, bool]] = field(default_factory=list)  # milliseconds, and whether from a cache
    first_ms: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    device_bytes: list[int] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    energy: Energy = field(default_factory=lambda: Energy(None, None, "not measured"))
    layers: tuple[Layer, ...] = ()
    outputs: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)  # by split and name: [N, ...]
    source: str = "measured"
    warnings: list[str] = field(default_factory=list)

    def give_up(self, error: EdgePruneError) -> None:
        """Keep why, and forget the rest: half a measurement is none."""
        blank = Found(self.variant, self.is_baseline, str(error), isinstance(error, DeviceError))
        vars(self).update(vars(blank))
