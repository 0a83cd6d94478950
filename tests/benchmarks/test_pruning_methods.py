from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeprune.pipeline.compile import prepare
from edgeprune.recipe import DynamicPart, PrunePart, Recipe, RlPart, TrainPart
from edgeprune.targets.load import load_target

BASE = Recipe(
    train=TrainPart(epochs=10, batch=32),
    prune=PrunePart(pruner="rl", keep=0.4, align=4, rl=RlPart(episode_epochs=4)),
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
        assert ("keep" in recipe.prune.model_fields_set) == (method not in ("dense", *script.WITHOUT_FRACTION))
        assert recipe.prune.keep == 0.5
    assert script.recipe_of(BASE, "rl-random", 0.5, 8, 3).prune.rl == RlPart(
        every_epochs=2, episode_epochs=4, random=True
    )
    assert script.recipe_of(BASE, "taylor", 0.5, 8, 3).prune.align == 4
    for method in ("loss", "taylor"):
        assert not script.recipe_of(BASE, method, 0.5, 8, 3).prune.per_cost
        part = script.recipe_of(BASE, f"{method}-per-cost", 0.5, 8, 3).prune
        assert (part.pruner, part.per_cost, part.align) == (method, True, 4)
    assert script.recipe_of(BASE, "static", 0.5, 8, 3).prune.dynamic.schedule == "static"


def test_every_method_is_trained_alike_whatever_the_recipe_says_of_weights_teachers_and_schedules(script):
    part = PrunePart(pruner="dynamic", dynamic=DynamicPart(schedule="coarse", every_epochs=2, distribution="uniform"))
    train = TrainPart(epochs=10, distill=0.5, recover_lr=0.1)
    base = Recipe(weights=Path("given.safetensors"), train=train, prune=part)
    for method in script.METHODS:
        recipe = script.recipe_of(base, method, 0.5, 8, 3)
        assert (recipe.weights, recipe.train.distill) == (None, 0)
        assert recipe.train.recover_lr is None or method not in script.IN_TRAINING
        if method != "rl":  # which needs an extra
            prepare(recipe, load_target("cpu"), None, None)
    dynamic = {
        method: script.recipe_of(base, method, 0.5, 8, 3).prune.dynamic for method in ("rigl", "coarse", "static")
    }
    assert {method: one.schedule for method, one in dynamic.items()} == {
        "rigl": "fine",
        "coarse": "coarse",
        "static": "static",
    }
    assert dynamic["coarse"].every_epochs == 2
    assert script.recipe_of(base, "rigl-2:4", 0.5, 8, 3).prune.dynamic.pattern == "2:4"
    gradual = script.recipe_of(base, "gradual", 0.2, 20, 3).prune.dynamic  # 0.84^10 = 0.175
    assert (gradual.schedule, gradual.every_epochs, gradual.until) == ("coarse", 1.0, 0.525)


def test_another_member_of_the_family_is_trained_as_long(script):
    recipe = script.recipe_of(BASE, "dense:resnet20", 1, 8, 3)
    assert (recipe.model, recipe.prune.pruner, recipe.train.epochs) == ("resnet20", "none", 8)


def test_the_work_of_a_training_is_counted_of_the_baselines_as_of_the_others(script):
    taylor = script.recipe_of(BASE, "taylor", 0.5, 8, 3)
    assert script.training_flops(taylor, 0.4, {"training_flops": 0.0, "training_flops_dense": 0.0}) == (4 + 4 * 0.4) / 8
    assert script.training_flops(script.recipe_of(BASE, "dense", 1, 8, 3), 1.0, {"pruner": "none"}) == 1
    told = {"training_flops": 3.0, "training_flops_dense": 4.0}
    assert script.training_flops(script.recipe_of(BASE, "loss", 0.5, 8, 3), 0.4, told) == 0.75


def test_the_time_of_a_training_is_that_of_the_epochs_that_made_the_network(script, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    base = Recipe(model="lenet5", train=TrainPart(batch=256))
    for method, parts in (("dense", ["train"]), ("taylor", ["train", "recover"]), ("static", ["recover"])):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        seconds = script.seconds_of(script.recipe_of(base, method, 0.5, 2, 0))
        files = [one for part in parts for one in (tmp_path / "cache").glob(f"{part}/*/epochs.jsonl")]
        assert len(files) == len(parts)
        epochs = [json.loads(line)["seconds"] for file in files for line in file.read_text().splitlines()]
        assert len(epochs) == 2
        assert seconds == pytest.approx(sum(epochs))


@pytest.mark.system
def test_a_second_call_does_nothing_again(script, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "base.yaml").write_text("model: lenet5\ntrain: {batch: 64}\nprune: {align: 1}\n")
    out = tmp_path / "rows.jsonl"
    arguments = [str(tmp_path / "base.yaml"), *("--methods", "dense,taylor", "--keep", "0.4", "--epochs", "2")]
    for _ in range(2):
        result = CliRunner().invoke(
            script.main, [*arguments, "--seeds", "0", "--out", str(out)], catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
    dense, taylor = [json.loads(line) for line in out.read_text().splitlines()]
    assert dense["training_flops"] == 1
    assert taylor["training_flops"] == pytest.approx((1 + taylor["macs"]) / 2)
    assert taylor["macs"] <= 0.4
    assert min(dense["training_seconds"], taylor["training_seconds"]) > 0
    assert "| taylor | 0.4 | 1 |" in result.output


def test_a_method_that_is_none_is_refused_before_any_is_run(script, tmp_path):
    asked = ["cnn-digits", "--methods", "dense,riggle", "--out", str(tmp_path / "rows.jsonl")]
    result = CliRunner().invoke(script.main, asked)
    assert result.exit_code == 2
    assert "unknown method riggle" in result.output


def row(method: str, keep: float, seed: int, score: float) -> dict:
    return {
        "method": method,
        "keep": keep,
        "seed": seed,
        "macs": 1.0,
        "zeros": 1 - keep,
        "training_flops": 0.4,
        "training_seconds": 12.0,
        "variants": {"ort-fp32": {"p50_ms": 0.5, "accuracy": {"report:top1": score}}},
    }


def test_the_table_has_a_row_for_each_method_and_fraction_with_means_over_seeds(script):
    rows = [row("dense", 1.0, seed, 0.9) for seed in (0, 1)]
    rows += [row("rigl", 0.2, 0, 0.8), row("rigl", 0.2, 1, 0.9), row("rigl", 0.1, 0, 0.7)]
    *_, dense, fifth, tenth = script.table(rows)
    assert dense.startswith("| dense |  | 2 | 90.00 ± 0.00 |  | 1.000 |")
    # Student's t of one degree of freedom is 12.706 there; half of the distance of two is their mean's deviation
    assert fifth == "| rigl | 0.2 | 2 | 85.00 ± 7.07 | -5.00 [-68.53, 58.53] | 1.000 | 0.800 | 0.400 | 12 | 0.500 |"
    assert tenth.startswith("| rigl | 0.1 | 1 | 70.00 | -20.00 |")


def test_beside_another_method_stands_what_keeps_the_same_fraction(script):
    rows = [row("taylor", keep, 0, score) for keep, score in ((0.5, 0.8), (0.25, 0.6))]
    rows += [row("loss", keep, 0, score) for keep, score in ((0.5, 0.81), (0.25, 0.7), (0.1, 0.5))]
    half, quarter, tenth = list(script.table(rows, "taylor"))[-3:]
    assert "| +1.00 |" in half
    assert "| +10.00 |" in quarter
    assert "| 50.00 |  |" in tenth
