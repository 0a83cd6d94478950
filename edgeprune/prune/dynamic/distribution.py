"""How many of its connections every layer keeps, so that the network keeps a share of all of them.

Uniform: every layer the same share. Erdos-Renyi-kernel (Evci et al., "Rigging the
Lottery", ICML 2020, section 3; Mocanu et al. 2018 for dense layers): a share proportional to

    (n_in + n_out + w + h) / (n_in n_out w h)

so that small layers keep more. Where that is above 1 a layer stays whole, and the others make up for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from edgeprune.errors import ConfigError

Distribution = Literal["uniform", "erdos-renyi-kernel"]


def erdos_renyi_kernel(shape: Sequence[int]) -> float:
    """What a layer's share is proportional to; `shape` is [n_out, n_in, ...]."""
    return sum(shape) / math.prod(shape)


RELATIVE: Mapping[Distribution, Callable[[Sequence[int]], float]] = {
    "uniform": lambda shape: 1.0,
    "erdos-renyi-kernel": erdos_renyi_kernel,
}


def active_counts(
    distribution: Distribution, shapes: Mapping[str, Sequence[int]], active: float, whole: Collection[str] = ()
) -> dict[str, int]:
    """Connections that every layer keeps; `active` of all of them together, to the last one.

    `shapes` are in the order of the network; those in `whole` keep all. Raises ConfigError where the others would not
    keep one each, and says which sparsity can be reached.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total, every = sum(sizes.values()), set(whole)
    wanted, exact = round(active * total), dict[str, float]()
    while free := [name for name in shapes if name not in every]:
        relative = {name: RELATIVE[distribution](shapes[name]) for name in free}
        left = wanted - sum(sizes[name] for name in every)
        if left < len(free):
            most = math.floor((1 - (total - sum(map(sizes.__getitem__, free)) + len(free)) / total) * 1e4) / 1e4
            raise ConfigError(
                f"sparsity {1 - active:g} cannot be reached with the {distribution} distribution, which leaves every"
                f" layer a connection and {', '.join(sorted(every)) or 'none'} whole: {most:g} can: ask for less"
            )
        factor = left / sum(relative[name] * sizes[name] for name in free)
        exact = {name: factor * relative[name] * sizes[name] for name in free}
        if not (over := {name for name in free if exact[name] >= sizes[name]}):
            break
        every |= over
    return {name: sizes[name] for name in every} | _rounded({name: exact[name] for name in free}, wanted, sizes, every)


def _rounded(
    exact: Mapping[str, float], wanted: int, sizes: Mapping[str, int], every: Collection[str]
) -> dict[str, int]:
    """Whole numbers, at least 1, that add up: the largest remainders are rounded up."""
    found = {name: max(math.floor(count), 1) for name, count in exact.items()}
    missing = wanted - sum(sizes[name] for name in every) - sum(found.values()) if found else 0
    for name in sorted(exact, key=lambda one: exact[one] - found[one], reverse=True)[: max(missing, 0)]:
        found[name] += 1
    while missing < 0:  # so many were raised to 1
        found[max(found, key=found.__getitem__)] -= 1
        missing += 1
    return found
