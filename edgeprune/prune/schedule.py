"""When to prune, and how far: at once, or gradually while the network is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgeprune.errors import ConfigError

Kind = Literal["one-shot", "linear", "cubic"]


@dataclass(frozen=True)
class Schedule:
    """Counted in calls of a pruner's `step`, the first of which is 1."""

    kind: Kind = "one-shot"
    start: int = 1
    """The call at which a one-shot pruner removes all, or after which a gradual one begins."""
    steps: int = 1
    """Over which a gradual one goes on."""
    every: int = 1
    """Calls between two removals."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"schedule {self.kind!r}: write one of {', '.join(get_args(Kind))}")
        if not (self.start >= 0 and self.steps >= 1 and self.every >= 1):
            raise ConfigError(
                f"schedule: it counts calls of step: start {self.start} must be 0 or more, steps {self.steps} and every"
                f" {self.every} 1 or more"
            )

    @property
    def last(self) -> int:
        """The call at which all is removed that is to be."""
        return self.start if self.kind == "one-shot" else self.start + self.steps

    def is_due(self, step: int) -> bool:
        """Whether something is to be removed at this call."""
        if self.kind == "one-shot":
            return step == max(self.start, 1)
        return step == self.last or (self.start < step < self.last and (step - self.start) % self.every == 0)

    def progress(self, step: int) -> float:
        """Which part of all that is to be removed is gone by then.

        Linear: p = t. Cubic: p = 1 - (1 - t)^3 (Zhu and Gupta, "To prune, or not to prune", 2017, equation 1), fast at
        first, while there is much that nobody misses.
        """
        if self.kind == "one-shot":
            return float(step >= self.start)
        t = min(max((step - self.start) / self.steps, 0.0), 1.0)
        return t if self.kind == "linear" else 1 - (1 - t) ** 3


ONE_SHOT = Schedule()
