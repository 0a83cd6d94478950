"""The table is measured here and called another target's: what stands in it is true of this machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeprune.bundle import open_bundle
from edgeprune.cache import StageCache
from edgeprune.choose import verdict
from edgeprune.errors import BudgetError, InputError
from edgeprune.latency_table import LatencyTable, read_table, write_table
from edgeprune.pipeline.compile import compile_bundle
from edgeprune.pipeline.foretold import check_table, predicted
from edgeprune.pipeline.operators import OperatorSettings, time_operators
from edgeprune.recipe import Recipe, validated
from edgeprune.targets.load import load_target

QUICK = OperatorSettings(restarts=1, seconds=0.1, warm_min_s=0, warm_max_s=0.2)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile the CNN, two epochs old, for a target, with these changes to the recipe."""
    cache = StageCache(tmp_path_factory.mktemp("cache"))

    def made(target: str, out: str, **changes):
        recipe = {
            "train": {"epochs": 2},
            "prune": {"pruner": "none"},
            "quantize": {"precision": "mixed"},
            "budgets": {"max_drop": 20.0, **changes.pop("budgets", {})},
            **changes,
        }
        root = tmp_path_factory.mktemp("bundles") / out
        return compile_bundle(
            validated(Recipe, recipe, "a test"), load_target(target), out=root, backends=("ort",), cache=cache
        )

    return made


@pytest.fixture(scope="module")
def local(compiled):
    bundle, _ = compiled("cpu", "here")
    return bundle


@pytest.fixture(scope="module")
def of_board(local, tmp_path_factory):
    """The times of this machine as those of a board."""
    table, found = time_operators(local, settings=QUICK)
    path = tmp_path_factory.mktemp("table") / "board.csv"
    write_table(replace(table, target="rpi5"), path)
    return path, {one.name: one.ms for one in found}


def test_what_was_measured_of_a_variant_is_foretold_of_it(local, of_board):
    path, measured = of_board
    table = read_table(path)
    for variant in local.core.variants:
        found = predicted(local, variant, table)
        assert found.unknown == ()
        # int8 and mixed have the same operators, so each is told the mean of both
        alike = [
            measured[one.name]
            for one in local.core.variants
            if (one.precision == "fp32") == (variant.precision == "fp32")
        ]
        assert min(alike) * 0.99 <= found.ms <= max(alike) * 1.01


def test_a_device_that_is_not_here_is_judged_by_its_table_which_travels_along(compiled, of_board):
    path, _ = of_board
    bundle, measured = compiled("rpi5", "within", latency_table=str(path), budgets={"max_latency_ms": 1e3})
    assert (open_bundle(bundle.root).root / "latency.csv").read_bytes() == path.read_bytes()
    assert measured.default_reason.startswith("unmeasured: foretold")
    for one in (measured.baseline, *measured.measurements):
        assert one.samples_ms == ()
        assert one.foretold.ms > 0
    best = min((measured.baseline, *measured.measurements), key=lambda one: one.foretold.ms)
    assert measured.default == best.variant


def test_a_budget_below_what_any_plan_takes_ends_with_the_best_found(compiled, of_board):
    path, _ = of_board
    budgets = {"max_latency_ms": 1e-6}
    bundle, measured = compiled("rpi5", "beyond", latency_table=str(path), budgets=budgets)
    error = verdict(measured, validated(Recipe, bundle.core.recipe, "a test").budgets, "mixed", allow_fallback=False)
    assert isinstance(error, BudgetError)
    assert "is foretold to take" in str(error)


def test_what_the_table_does_not_know_is_said(compiled, of_board, tmp_path):
    path, _ = of_board
    table = read_table(path)
    less = [one for one in table.entries if not one.key.operator.startswith("MaxPool")]
    write_table(LatencyTable(table.target, table.machine, table.environment, tuple(less)), tmp_path / "less.csv")
    _, measured = compiled("rpi5", "unknown", latency_table=str(tmp_path / "less.csv"))
    assert measured.baseline.foretold.ms is None
    assert "MaxPool" in measured.baseline.foretold.how


def test_the_table_of_another_target_is_refused(of_board, tmp_path):
    path, _ = of_board
    with pytest.raises(InputError, match="times of rpi5, not of intel-nuc"):
        check_table(path, load_target("intel-nuc"))
    with pytest.raises(InputError, match="bench BUNDLE --operators"):
        check_table(tmp_path / "none.csv", load_target("rpi5"))
