"""Count the work of a training in floating-point operations, as a machine would do it that skips what is zero.

Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020, appendix H: a step costs three forward
passes, one of them forwards, one for the gradients of what layers give and one for those of their weights. Of a sparse
network all three are sparse, but the last where every weight's gradient is looked at. PyTorch multiplies by the zeros
too: what this counts is not the time that a training takes here.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOPS = 2
"""Of a multiply-accumulate."""


@dataclass
class TrainingFlops:
    """Of all steps so far."""

    spent: float = 0.0
    dense: float = 0.0
    """What the unpruned network would have cost in as many."""

    def add(self, macs: float, dense_macs: float, samples: float, *, dense_gradient: bool = False) -> None:
        """One step on so many samples, of which each takes `macs` multiply-accumulates to answer."""
        self.spent += FLOPS * samples * (2 * macs + (dense_macs if dense_gradient else macs))
        self.dense += FLOPS * samples * 3 * dense_macs
