"""What every observer does, whatever it looks for."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeprune.quantize.affine import asymmetric, quantize
from edgeprune.quantize.observers import OBSERVERS
from edgeprune.quantize.observers.observer import Observer
from edgeprune.recipe import OBSERVERS as NAMES
from edgeprune.registry import resolve

pytestmark = pytest.mark.parametrize("new", [resolve(OBSERVERS, name, "observer") for name in OBSERVERS], ids=OBSERVERS)
BATCH_FREE = {"minmax", "percentile", "mse", "entropy"}
VALUES = arrays.arrays(np.float32, st.integers(1, 50), elements=st.floats(-(2.0**100), 2.0**100, width=32))
New = Callable[[], Observer]
few = settings(max_examples=20, deadline=None)


def shown(new: New, *batches: np.ndarray) -> Observer:
    observer = new()
    for batch in batches:
        observer.observe(batch)
    return observer


def test_a_recipe_may_name_it_and_the_page_tells_of_it(new, request):
    assert tuple(OBSERVERS) == NAMES
    page = (Path(__file__).parents[2] / "docs" / "quantization.md").read_text(encoding="utf-8")
    assert f"| `{request.node.callspec.id}` |" in page


@few
@given(batches=st.lists(VALUES, min_size=1, max_size=4))
def test_the_range_lies_within_what_was_seen(new, batches):
    found, x = shown(new, *batches).range(), np.concatenate(batches)
    assert x.min() <= found.low <= found.high <= x.max()


@few
@given(x=VALUES, cuts=st.lists(st.integers(0, 50), max_size=4))
def test_how_samples_are_batched_changes_nothing(new, x, cuts, request):
    if request.node.callspec.id not in BATCH_FREE:
        pytest.skip("an average over batches depends on what a batch is")
    parts = [part for part in np.split(x, sorted(cuts)) if part.size]
    assert shown(new, x).range() == shown(new, *parts).range()


@few
@given(before=st.lists(VALUES, max_size=3), after=st.lists(VALUES, min_size=1, max_size=3))
def test_a_state_that_was_stored_is_gone_on_from(new, before, after):
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **shown(new, *before).state())
    file.seek(0)
    restored = new()
    with np.load(file, allow_pickle=False) as state:
        restored.restore(dict(state))
    for batch in after:
        restored.observe(batch)
    unbroken = shown(new, *before, *after)
    assert restored.range() == unbroken.range()
    for name, array in unbroken.state().items():
        np.testing.assert_array_equal(restored.state()[name], array)


def test_a_state_of_another_kind_is_refused(new):
    with pytest.raises(KeyError):
        new().restore({"other": np.zeros(2)})


@pytest.mark.parametrize("value", [-2.5, 0, 3e-42, 3e38])
def test_a_constant_is_its_own_range(new, value):
    x = np.full((4, 3), value, np.float32)
    found = shown(new, x, x).range()
    assert (found.low, found.high) == (x[0, 0], x[0, 0])


def test_zero_stays_exact_and_padding_with_it(new):
    found = shown(new, np.random.default_rng(0).normal(5, 1, 1000)).range()
    q = asymmetric(found)
    assert quantize(np.zeros(1, np.float32), q)[0] == q.zero_point


def test_a_huge_outlier_leaves_a_range_that_can_be_used(new):
    x = np.append(np.random.default_rng(0).normal(size=5000), 1e30).astype(np.float32)
    found = shown(new, x).range()
    assert np.isfinite([found.low, found.high]).all()
    assert found.low < 0 < found.high


def test_memory_does_not_grow_with_what_is_seen(new):
    random, observer = np.random.default_rng(0), new()
    for scale in 2.0 ** np.arange(60):
        observer.observe(random.normal(0, scale, (8, 500)).astype(np.float32))
        assert sum(array.nbytes for array in observer.state().values()) <= 1 << 15
