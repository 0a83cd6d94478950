"""Choose a precision for every layer: the least loss within what may be spent, or the least spent within a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import block_diag, csr_array

from edgeprune.errors import BudgetError
from edgeprune.quantize.spec import LayerQuant, QuantPlan

Amount = Literal["loss", "size_bytes", "memory_bytes", "latency_ms"]
UNITS: dict[Amount, str] = {"loss": "", "size_bytes": " bytes", "memory_bytes": " bytes", "latency_ms": " ms"}


@dataclass(frozen=True)
class Option:
    """One way to have a layer, and what it costs."""

    quant: LayerQuant
    loss: float
    """By how much the loss is predicted to rise, per sample."""
    size_bytes: int
    """On disk."""
    memory_bytes: int
    """As it is multiplied by: 4 bits that are cast at load take 8."""
    latency_ms: float = 0.0
    """By a latency table; 0 where there is none."""


def allocate(options: Mapping[str, Sequence[Option]], minimize: Amount, limits: Mapping[Amount, float]) -> QuantPlan:
    """One option for each weight: min sum_l c_l(o_l) subject to sum_l a_l(o_l) <= limit for each amount a in `limits`.

    An integer program with one binary variable for each option (as in Yao et al., "HAWQ-V3", 2021), solved by HiGHS.
    Raises BudgetError where no combination keeps a limit, saying what is the least that can be had.
    """
    every = [option for choices in options.values() for option in choices]
    for amount, limit in limits.items():
        least = sum(min(getattr(option, amount) for option in choices) for choices in options.values())
        if least > limit:
            raise BudgetError(
                f"no plan keeps {amount} within {limit:g}{UNITS[amount]}: the least of all layers together is"
                f" {least:g}{UNITS[amount]}: allow more"
            )
    one_each = block_diag([np.ones((1, len(choices))) for choices in options.values()], format="csr")
    constraints = [LinearConstraint(one_each, 1, 1)]
    for amount, limit in limits.items():
        row, scale = _of(every, amount), limit or 1.0  # in parts of the limit: tolerances are absolute
        constraints.append(LinearConstraint(csr_array(row[np.newaxis] / scale), -np.inf, limit / scale))
    cost = _of(every, minimize)
    # among equal costs the smaller file, then the smaller memory
    cost = cost / max(cost.max(initial=0.0), 1e-30) + 1e-7 * _of(every, "size_bytes") / max(
        _of(every, "size_bytes").max(), 1
    )
    found = milp(cost, constraints=constraints, integrality=np.ones(len(every)), bounds=Bounds(0, 1))
    if found.x is None:
        told = ", ".join(f"{amount} within {limit:g}{UNITS[amount]}" for amount, limit in limits.items())
        raise BudgetError(f"no plan keeps {told} all at once: allow more of one of them")
    chosen, start, layers = np.rint(found.x), 0, {}
    for weight, choices in options.items():
        index = int(np.argmax(chosen[start : start + len(choices)]))
        layers[weight] = choices[index].quant
        start += len(choices)
    return QuantPlan(layers)


def total(options: Mapping[str, Sequence[Option]], plan: QuantPlan, amount: Amount) -> float:
    """What a plan of these options costs."""
    of = {(weight, option.quant): getattr(option, amount) for weight, choices in options.items() for option in choices}
    return float(sum(of[weight, quant] for weight, quant in plan.layers.items()))


def _of(options: Sequence[Option], amount: Amount) -> NDArray[np.float64]:
    return np.array([getattr(option, amount) for option in options], np.float64)
