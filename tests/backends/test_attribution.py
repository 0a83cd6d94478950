from __future__ import annotations

from edgeprune.backends.attribution import attributed

PARTS = {"conv": "conv", "relu": "conv", "pool": "pool"}


def test_the_first_name_that_is_known_tells():
    assert attributed([(("other", "relu"), 2.0), (("pool",), 1.0)], PARTS) == {"conv": 2.0, "pool": 1.0}


def test_what_no_name_tells_belongs_to_what_ran_before_it():
    kernels = [(("reorder in",), 1.0), (("conv",), 4.0), (("reorder out",), 2.0), (("pool",), 1.0)]
    assert attributed(kernels, PARTS) == {"conv": 7.0, "pool": 1.0}


def test_no_time_is_lost_or_told_twice():
    kernels = [(("a",), 0.5), (("conv",), 4.0), (("relu",), 0.25), (("b",), 0.125), (("pool", "conv"), 1.0)]
    assert sum(attributed(kernels, PARTS).values()) == sum(us for _, us in kernels)
