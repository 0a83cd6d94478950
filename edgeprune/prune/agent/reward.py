"""What an agent is paid: for accuracy and a low loss, and for parameters, operations and milliseconds that are gone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from edgeprune.errors import ConfigError, ModelError
from edgeprune.prune.agent.walk import Left


@dataclass(frozen=True)
class Judged:
    """How a network does on samples that it was not trained on."""

    accuracy: float
    """In [0, 1]."""
    loss: float


@dataclass(frozen=True)
class Reward:
    """Weights of the terms of a state's worth; an action is paid by how much it changes that."""

    accuracy: float = 1.0
    loss: float = 0.05
    parameters: float = 0.1
    flops: float = 0.4
    latency: float = 0.0

    def __post_init__(self) -> None:
        if bad := [name for name, weight in asdict(self).items() if not (math.isfinite(weight) and weight >= 0)]:
            raise ConfigError(f"reward: the weight of {bad[0]} must be a number, 0 or more")

    def worth(self, judged: Judged, left: Left) -> float:
        """A accuracy - l loss - p parameters - f flops - t latency, the costs as fractions of the dense network's.

        Raises ModelError that names the term which is no number.
        """
        terms = {
            "accuracy": self.accuracy * judged.accuracy,
            "loss": -self.loss * judged.loss,
            "parameters": -self.parameters * left.parameters,
            "flops": -self.flops * left.flops,
            "latency": -self.latency * left.latency,
        }
        if bad := [name for name, term in terms.items() if not math.isfinite(term)]:
            raise ModelError(
                f"reward: its term {bad[0]} is {terms[bad[0]]}: learning stops here: the training it comes from has"
                " diverged, lower its learning rate, or prune less at once (k)"
            )
        return sum(terms.values())
