"""When connections are dropped and grown, and how many: in the paper's fine steps, in coarse ones, once, or never."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgeprune.errors import ConfigError

Kind = Literal["fine", "coarse", "one-shot", "static"]


@dataclass(frozen=True)
class Updates:
    """Counted in calls of a pruner's `step`, the first of which is 1.

    - `fine`: sparse from the beginning. At every update t a fraction a/2 (1 + cos(pi t / T)) of the active connections
      is dropped, and as many are grown (Evci et al., "Rigging the Lottery", ICML 2020, section 3).
    - `coarse`: dense at first. At every update a fraction is dropped, and a fraction of the dropped grown again, until
      the sparsity asked for is reached; from then on as many are grown as are dropped. Where it ends as soon as that is
      reached, it is gradual pruning with regrowth (Liu et al., "Sparse Training via Boosting Pruning Plasticity with
      Neuroregeneration", NeurIPS 2021).
    - `one-shot`: dense at first, then once and for all sparse.
    - `static`: sparse from the beginning, and always the same.
    """

    kind: Kind
    steps: int
    """Of the whole training."""
    every: int = 100
    """Between two updates; of `one-shot` before the only one."""
    drop: float = 0.3
    """Fraction of the active connections that is dropped, of `fine` at first."""
    regrow: float = 0.2
    """Of `coarse`: fraction of the dropped that is grown."""
    until: float | None = None
    """Of `fine` and `coarse`: the part of the training after which nothing changes, T; None: 0.75 of `fine`, or all."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"updates every {self.every} steps: the interval must be 1 or more")
        if not 0 < self.drop < 1 or not 0 <= self.regrow < 1 or not 0 < self._until <= 1:
            raise ConfigError(f"updates: fractions lie between 0 and 1: drop {self.drop:g}, regrow {self.regrow:g},"
                              f" until {self._until:g}")  # fmt: skip
        if self.kind != "static" and self.every >= self._end:
            raise ConfigError(
                f"updates every {self.every} steps do not fit into {self._end} steps of training: train longer, or"
                " update more often"
            )

    @property
    def regrows(self) -> bool:
        """Whether the gradients of inactive connections are looked at."""
        return self.kind in ("fine", "coarse")

    def is_due(self, step: int) -> bool:
        """Whether connections change at this call."""
        if self.kind == "static":
            return False
        if self.kind == "one-shot":
            return step == self.every
        return step % self.every == 0 and 0 < step < self._end

    def active(self, step: int, sparsity: float) -> float:
        """The fraction of all connections that is active after this call."""
        if self.kind == "coarse":
            return max((1 - self.drop + self.drop * self.regrow) ** self._number(step), 1 - sparsity)
        return 1.0 if self.kind == "one-shot" and step < self.every else 1 - sparsity

    def dropped(self, step: int, before: int, after: int) -> int:
        """How many of `before` active connections of a layer go, so that with those grown `after` are left."""
        if self.kind == "one-shot":
            return before - after
        if self.kind == "coarse":
            shrinks = self.drop * before if before == after else (before - after) / (1 - self.regrow)
            return min(max(round(shrinks), before - after), before)
        return max(round(before * self.drop / 2 * (1 + math.cos(math.pi * step / self._end))), before - after)

    def check(self, sparsity: float) -> None:
        """Raises ConfigError where these updates do not reach that sparsity."""
        last = max((step for step in range(self.every, self.steps, self.every) if self.is_due(step)), default=0)
        reached = 1 - self.active(last, sparsity)
        if self.kind == "coarse" and reached < sparsity - 1e-9:
            raise ConfigError(
                f"sparsity {sparsity:g} cannot be reached in {self._number(last)} updates of {self.drop:g} dropped and"
                f" {self.regrow:g} of them grown again: {math.floor(reached * 1e4 + 1e-6) / 1e4:g} can: train longer,"
                " update more often, or ask for less"
            )

    @property
    def _until(self) -> float:
        return (0.75 if self.kind == "fine" else 1.0) if self.until is None else self.until

    @property
    def _end(self) -> int:
        return round(self._until * self.steps)

    def _number(self, step: int) -> int:
        return min(step, self._end - 1) // self.every
