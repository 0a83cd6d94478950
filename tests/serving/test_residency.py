from __future__ import annotations

import time

import numpy as np
import pytest

from edgeprune.errors import BudgetError, ModelError
from edgeprune.serving.policy import fixed, most_accurate
from edgeprune.serving.residency import Residency
from edgeprune.serving.session import AdaptiveRunner, Variant

MIB = 1 << 20
X = {"x": np.zeros(1, np.float32)}


class Block:
    """A runner of so many bytes; `total` is what all that are open take."""

    total = 0

    def __init__(self, size: int) -> None:
        self.size = size
        Block.total += size

    def close(self) -> None:
        Block.total -= self.size


@pytest.fixture
def residency():
    Block.total = 0

    def made(*sizes_mib: int, cap_mib: int | None = None) -> Residency:
        openers = tuple(lambda size=size: Block(size * MIB) for size in sizes_mib)
        cap = None if cap_mib is None else cap_mib * MIB
        return Residency(openers, cap_bytes=cap, grown=lambda: Block.total)

    return made


def test_without_a_cap_all_stay(residency):
    found = residency(30, 10)
    assert found.open(0) is found.open(0)
    found.open(1)
    assert found.places == (0, 1)
    assert found.takes_bytes == {0: 30 * MIB, 1: 10 * MIB}
    assert found.opening_ms.keys() == {0, 1}
    found.close_all()
    assert (found.places, Block.total) == ((), 0)


def test_no_more_than_the_cap_is_in_memory_once_sizes_are_known(residency):
    found = residency(30, 20, 10, cap_mib=40)
    for index in (0, 1, 2, 0, 2, 1):
        found.open(index)
    for index in (0, 1, 2, 1, 0, 2) * 3:
        found.open(index)
        assert Block.total <= 40 * MIB
        assert index in found.places


def test_what_must_go_goes_the_most_precise_first(residency):
    found = residency(30, 20, 10, cap_mib=45)
    for index in (0, 1, 2):
        found.open(index)
    assert found.places == (2,)  # nobody knew before what the next takes
    found.open(0)
    assert found.places == (0, 2)
    assert found.in_the_way(1) == (0,)


def test_it_takes_its_files_at_least():
    found = Residency((lambda: Block(0),), least_bytes=(5 * MIB,), grown=lambda: 0)
    found.open(0)
    assert found.takes_bytes == {0: 5 * MIB}


def test_one_alone_above_the_cap_is_refused(residency):
    with pytest.raises(BudgetError, match=r"takes 30.0 MiB of memory, 20.0 allowed"):
        residency(30, 10, cap_mib=20).open(0)


def test_what_is_fetched_comes_while_others_serve(residency):
    found = residency(30, 10)
    found.open(0)
    found.fetch(1)
    found.fetch(1)
    while not found.arrived(1):
        time.sleep(1e-3)
    assert found.places == (0, 1)
    assert Block.total == 40 * MIB


def test_what_cannot_be_fetched_says_so():
    def broken():
        raise ModelError("no such operator")

    found = Residency((broken,))
    found.fetch(0)
    assert found._thread is not None
    found._thread.join()
    with pytest.raises(ModelError, match="no such operator"):
        found.arrived(0)


def test_under_a_cap_variants_take_each_others_place_and_the_cost_is_told(timed):
    clock_type, runner_type = timed
    clock, taken = clock_type(), []

    class Heavy(runner_type):
        """Takes 30 MiB, and 50 ms to open."""

        def __init__(self, service_s: float) -> None:
            super().__init__(clock, service_s)
            clock.now_s += 0.05
            taken.append(self)

        def close(self) -> None:
            taken.remove(self)

    def grown() -> int:
        return 30 * MIB * len(taken)

    variants = [
        Variant(name, name, None, lambda service_s=service_s: Heavy(service_s))
        for name, service_s in (("fp32", 0.002), ("int8", 0.001))
    ]
    residency = Residency(tuple(one.open for one in variants), cap_bytes=40 * MIB, grown=grown, clock=clock)
    session = AdaptiveRunner(variants, fixed("fp32"), feeds=X, residency=residency, clock=clock, deadline_ms=1e3)
    assert session.resident_bytes == {"fp32": 30 * MIB}
    session.restart(lambda readings, ladder: "int8" if readings.waiting else "fp32", 50)
    session.infer(X)
    assert session.resident_bytes == {"fp32": 30 * MIB}
    session.infer(X, waiting=1)
    assert session.resident_bytes == {"int8": 30 * MIB}
    change = session.changes[0]
    assert change.opened
    assert change.took_ms == pytest.approx(50, rel=0.05)
    assert session.opening_ms == pytest.approx({"fp32": 50, "int8": 50}, rel=0.05)
    cautious = AdaptiveRunner(variants, most_accurate(), feeds=X, residency=residency, clock=clock, deadline_ms=40)
    cautious.infer(X)
    assert cautious.last.rung == 1  # a way back that takes longer than the deadline is none
