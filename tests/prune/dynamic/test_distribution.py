from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import ConfigError
from edgeprune.prune.dynamic.distribution import RELATIVE, active_counts, erdos_renyi_kernel

LAYERS = {"a": (16, 3, 3, 3), "b": (32, 16, 3, 3), "c": (64, 32, 3, 3), "d": (10, 64)}
SIZES = {name: math.prod(shape) for name, shape in LAYERS.items()}


@pytest.mark.parametrize("distribution", RELATIVE)
@given(active=st.floats(0.01, 1))
def test_all_layers_together_keep_what_was_asked_for_to_the_last_connection(distribution, active):
    found = active_counts(distribution, LAYERS, active)
    assert sum(found.values()) == round(active * sum(SIZES.values()))
    assert all(1 <= found[name] <= SIZES[name] for name in LAYERS)


def test_uniform_gives_every_layer_the_same_share_and_leaves_whole_what_is_said():
    found = active_counts("uniform", LAYERS, 0.25, ["a"])
    assert found["a"] == SIZES["a"]
    shares = [found[name] / SIZES[name] for name in "bcd"]
    assert max(shares) - min(shares) < 1 / min(SIZES.values())


def test_erdos_renyi_kernel_gives_shares_as_the_formula_says():
    """Evci et al. 2020, section 3: 1 - sparsity is proportional to (n_in + n_out + w + h) / (n_in n_out w h)."""
    assert erdos_renyi_kernel((64, 32, 3, 3)) == (64 + 32 + 3 + 3) / (64 * 32 * 3 * 3)
    found = active_counts("erdos-renyi-kernel", LAYERS, 0.1)
    ratios = {name: found[name] / SIZES[name] / erdos_renyi_kernel(shape) for name, shape in LAYERS.items()}
    free = [ratio for name, ratio in ratios.items() if found[name] < SIZES[name]]
    assert max(free) / min(free) < 1.02
    assert all(ratios[name] <= max(free) for name in LAYERS if found[name] == SIZES[name])


@pytest.mark.parametrize("distribution", RELATIVE)
def test_a_sparsity_that_no_layers_can_share_is_told_with_what_can(distribution):
    with pytest.raises(
        ConfigError, match=rf"sparsity 0\.9999 cannot be reached with the {distribution} .* b whole: 0\."
    ):
        active_counts(distribution, LAYERS, 0.0001, ["b"])
    with pytest.raises(ConfigError, match="cannot be reached") as told:
        active_counts(distribution, LAYERS, 0.00001)
    most = float(str(told.value).rsplit(": ", 2)[1].split()[0])
    assert sum(active_counts(distribution, LAYERS, 1 - most).values()) >= len(LAYERS)
