from __future__ import annotations

import pytest

from edgeprune.recipe import PrunePart, Recipe, RlPart, TrainPart

BASE = Recipe(
    train=TrainPart(epochs=10, batch=32),
    prune=PrunePart(pruner="rl", keep=0.4, align=4, rl=RlPart(every_epochs=2)),
)


@pytest.fixture(scope="module")
def script(program):
    return program("pruning_methods")


def test_every_method_gets_the_same_epochs_and_the_fraction_and_the_seed_that_are_asked_for(script):
    for method in script.METHODS:
        recipe = script.recipe_of(BASE, method, 0.5, 8, 3)
        again = recipe.train.recover_epochs
        in_all = (
            recipe.train.epochs if method == "dense" else again + recipe.train.epochs * (method in script.AFTERWARDS)
        )
        assert in_all == 8
        assert (recipe.seed, recipe.train.batch) == (3, 32)
        assert "keep" in recipe.prune.model_fields_set or method in ("dense", "loss-threshold")
        assert recipe.prune.keep == 0.5
    assert script.recipe_of(BASE, "rl-random", 0.5, 8, 3).prune.rl == RlPart(every_epochs=2, random=True)
    assert script.recipe_of(BASE, "taylor", 0.5, 8, 3).prune.align == 4
    assert script.recipe_of(BASE, "static", 0.5, 8, 3).prune.dynamic.schedule == "static"


def test_the_table_has_a_row_for_each_method_and_fraction_with_means_over_seeds(script):
    rows = [
        {
            "method": "rigl",
            "keep": 0.2,
            "macs": 1.0,
            "zeros": 0.8,
            "training_flops": 0.4,
            "variants": {"ort-fp32": {"p50_ms": 0.5, "accuracy": {"report:top1": score}}},
        }
        for score in (0.8, 0.9)
    ]
    *_, row = script.table(rows)
    assert row == "| rigl | 0.2 | 2 | 85.00 ± 7.07 | 1.000 | 0.800 | 0.400 | 0.500 |"
