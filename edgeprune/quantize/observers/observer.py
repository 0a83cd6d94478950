"""The seam to a way of finding ranges: it sees every batch of one value, and then says which range is worth having."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from edgeprune.quantize.spec import Range

State = Mapping[str, NDArray[Any]]
"""All that an observer has to remember, to be stored without pickle."""


class Observer(Protocol):
    """Its memory does not grow with what it sees."""

    def observe(self, x: NDArray[Any]) -> None:
        """One batch, [N, ...], finite."""
        ...

    def range(self) -> Range:
        """For all that was seen, and within it; quantization itself adds 0 where it lies outside."""
        ...

    def state(self) -> State:
        """What was seen, for a new observer of the same kind to go on from."""
        ...

    def restore(self, state: State) -> None:
        """Go on from what `state` gave. Raises KeyError where it is of another kind."""
        ...
