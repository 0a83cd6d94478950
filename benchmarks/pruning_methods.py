"""Pruners at equal training: what each leaves of accuracy, work, latency and of the work of the training itself.

    python benchmarks/pruning_methods.py resnet20-cifar10 --methods dense,static,one-shot-sparse,rigl --keep 0.2
        --epochs 60 --seeds 0,1,2 --out build/resnet20-sparse.jsonl

RECIPE says model, data and how it is trained; every method gets `--epochs` of training in all, from drawn weights and
without a teacher: those that begin with a trained network spend half of them on it and half on what is left.
`dense:MODEL` is another network of the family, trained as long. A line of JSON is added to `--out` for each method,
fraction and seed that is done, and none of those is done again: so long runs are slices of one command. The table at
the end is of all lines in the file; its latencies were measured one by one, `equal_latency.py` measures the bundles
beside the file by turns.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click
from scipy.stats import t

from edgeprune.api import recipe_with, stage_cache
from edgeprune.cli.program import Program
from edgeprune.pipeline import artifact, network
from edgeprune.pipeline.compile import compile_bundle, prepare, pruned_network
from edgeprune.recipe import SCHEDULED, DynamicPart, LossPart, PrunePart, Recipe, RlPart
from edgeprune.targets.load import load_target

IN_TRAINING: dict[str, dict[str, Any]] = {
    "rigl": {"pruner": "dynamic", "dynamic": DynamicPart(schedule="fine")},
    "rigl-uniform": {"pruner": "dynamic", "dynamic": DynamicPart(schedule="fine", distribution="uniform")},
    "rigl-2:4": {"pruner": "dynamic", "dynamic": DynamicPart(schedule="fine", pattern="2:4")},
    "coarse": {"pruner": "dynamic", "dynamic": DynamicPart(schedule="coarse")},
    "gradual": {"pruner": "dynamic", "dynamic": DynamicPart(schedule="coarse")},
    "static": {"pruner": "dynamic", "dynamic": DynamicPart(schedule="static")},
    "one-shot-sparse": {"pruner": "dynamic", "dynamic": DynamicPart(schedule="one-shot")},
    "loss": {"pruner": "loss"},
    "loss-threshold": {"pruner": "loss", "loss": LossPart(threshold=0.01, connections=0.5)},
    "rl": {"pruner": "rl", "rl": RlPart()},
    "rl-random": {"pruner": "rl", "rl": RlPart(random=True, policy=None)},
}
PER_COST = "-per-cost"
"""Behind a method: what matters least for what it costs goes first, whatever the recipe says."""
IN_TRAINING[f"loss{PER_COST}"] = IN_TRAINING["loss"] | {"per_cost": True}
AFTERWARDS = ("uniform", "magnitude", "taylor", f"taylor{PER_COST}")
METHODS = ("dense", *IN_TRAINING, *AFTERWARDS)
FAMILY = "dense:"
"""In front of the model that another member of the family is."""
WITHOUT_FRACTION = ("loss-threshold", "rigl-2:4")
"""Which say by themselves what stays."""


def recipe_of(base: Recipe, method: str, keep: float, epochs: int, seed: int) -> Recipe:
    """The base with a method in it."""
    shape = base.prune.model_dump(include={"align", "per_cost", "cost"}, exclude_unset=True)
    train: dict[str, Any]
    if method.startswith("dense"):
        train, prune = {"epochs": epochs}, PrunePart(pruner="none")
    elif method in AFTERWARDS:
        train = {"epochs": epochs // 2, "recover_epochs": epochs - epochs // 2}
        shape |= {"per_cost": True} if method.endswith(PER_COST) else {}
        prune = PrunePart.model_validate({"pruner": method.removesuffix(PER_COST), "keep": keep} | shape)
    else:
        train = {"epochs": epochs, "recover_epochs": epochs, "recover_lr": None, "recover_augment": None}
        how = IN_TRAINING[method]
        own = base.prune.model_dump(include={how["pruner"]}, exclude_unset=True).get(how["pruner"], {})
        changed = how.get(how["pruner"])
        merged = {how["pruner"]: own | (changed.model_dump(exclude_unset=True) if changed else {})}
        if how["pruner"] == "dynamic":
            merged = {"dynamic": _used(merged["dynamic"])}
        if method == "gradual":
            merged["dynamic"] |= _reached_at_half(DynamicPart(**merged["dynamic"]), keep, epochs)
        if how["pruner"] == "rl":  # as many decisions as in the episodes that it learns in
            merged["rl"]["every_epochs"] = epochs / base.prune.rl.episode_epochs
        budget = {} if method in WITHOUT_FRACTION else {"keep": keep}
        prune = PrunePart(**(shape if how["pruner"] != "dynamic" else {}) | how | merged | budget)
    model = method.removeprefix(FAMILY) if method.startswith(FAMILY) else base.model
    part = base.train.model_copy(update={**train, "distill": 0.0})
    return base.model_copy(update={"model": model, "weights": None, "prune": prune, "seed": seed, "train": part})


def _reached_at_half(how: DynamicPart, keep: float, epochs: int) -> dict[str, Any]:
    """Updates of `coarse`, of which the last comes in the middle of the training."""
    drop = how.drop or 0.2  # as the recipe has it
    updates = math.ceil(math.log(keep) / math.log(1 - drop + drop * how.regrow))
    return {"every_epochs": epochs / 2 / updates, "until": 0.5 + 0.25 / updates}


def _used(dynamic: dict[str, Any]) -> dict[str, Any]:
    """Without what the base's own schedule or distribution has regard to, and the method's has not."""
    every, used = {key for keys in SCHEDULED.values() for key in keys}, SCHEDULED[dynamic["schedule"]]
    idle = {*every} - {*used} | ({"distribution"} if dynamic.get("pattern") else set())
    return {key: value for key, value in dynamic.items() if key not in idle}


def seconds_of(recipe: Recipe) -> float:
    """What all epochs took that made the network: of a baseline those of the dense one too."""
    job = prepare(recipe, load_target("cpu"), None, stage_cache())
    trained = network.train(job)
    dense = artifact.export(job, trained, partial(network.dense, job, trained))
    pruned = pruned_network(job, trained, dense)
    first = recipe.prune.pruner in ("none", *AFTERWARDS)
    return first * network.training_seconds(trained) + network.training_seconds(pruned)


def training_flops(recipe: Recipe, macs: float, pruning: dict[str, Any]) -> float:
    """Of the work of as many epochs of the dense network: as its pruner counted it, or half of it on what is left."""
    if pruning.get("training_flops_dense"):
        return float(pruning["training_flops"] / pruning["training_flops_dense"])
    first, again = recipe.train.epochs, recipe.train.recover_epochs or 0
    return (first + again * macs) / (first + again)


def fractions_of(method: str, asked: list[str]) -> list[str]:
    """Those that make a difference to a method."""
    if method.startswith("dense"):
        return ["1"]
    return asked[:1] if method in WITHOUT_FRACTION else asked


def measured(recipe: Recipe, out: Path) -> dict[str, Any]:
    """What is known of the bundle that comes out."""
    bundle, found = compile_bundle(recipe, load_target("cpu"), out=out, cache=stage_cache())
    pruning, variants = bundle.core.pruning, {}
    for record in (found.baseline, *found.measurements):
        variants[record.variant] = {
            "p50_ms": record.percentile_ms(50),
            "accuracy": {f"{one.split}:{one.metric}": one.value.estimate for one in record.accuracy},
        }
    connections = pruning.get("connections", ())
    weights = sum(one["before"] for one in connections)
    macs = pruning["macs"] / pruning["macs_dense"]
    return {
        "kept": pruning.get("cost_after", 1) / pruning.get("cost_before", 1),
        "macs": macs,
        "zeros": 1 - sum(one["after"] for one in connections) / weights if weights else 0.0,
        "training_flops": training_flops(recipe, macs, pruning),
        "training_seconds": seconds_of(recipe),
        "variants": variants,
    }


def done(out: Path) -> list[dict[str, Any]]:
    """What the file holds."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def table(rows: list[dict[str, Any]], against: str = "dense") -> Iterator[str]:
    """Markdown: a row per method and fraction, means over seeds, with the deviation of one.

    How far it is from the method `against`, of the same fraction where that has several, is paired by seeds, with
    Student's interval of the mean at 95 %.
    """
    yield (
        f"| method | keep | seeds | accuracy, % (report) | beside {against}, points | macs | zeros | training FLOPs"
        " | training, s | p50, ms |"
    )
    yield f"|{'---|' * 10}"
    groups = defaultdict[tuple[str, float], list[dict[str, Any]]](list)
    for row in rows:
        groups[row["method"], row["keep"]].append(row)
    others = {(row["keep"], row["seed"]): _score(row) for row in rows if row["method"] == against}
    single = {keep for keep, _ in others} if len({keep for keep, _ in others}) == 1 else set[float]()
    for (method, keep), found in groups.items():
        scores = [_score(one) for one in found]
        beside = [(next(iter(single), keep), one["seed"]) for one in found]
        apart = [score - others[at] for score, at in zip(scores, beside, strict=True) if at in others]
        spread = f" ± {stdev(scores):.2f}" if len(scores) > 1 else ""
        asked = "" if method.startswith("dense") or method in WITHOUT_FRACTION else f"{keep:g}"
        cells = (
            *(method, asked, len(found), f"{mean(scores):.2f}{spread}", "" if method == against else _interval(apart)),
            *(f"{mean(one[name] for one in found):.3f}" for name in ("macs", "zeros")),
            *(_mean_known(found, name, digits) for name, digits in (("training_flops", 3), ("training_seconds", 0))),
            f"{mean(_deployed(one)['p50_ms'] for one in found):.3f}",
        )
        yield f"| {' | '.join(map(str, cells))} |"


def _deployed(row: dict[str, Any]) -> dict[str, Any]:
    """What is known of the FP32 file for ONNX Runtime; of a dense network that is the baseline itself."""
    variants: dict[str, dict[str, Any]] = row["variants"]
    return variants["baseline" if "baseline" in variants and row["method"].startswith("dense") else "ort-fp32"]


def _score(row: dict[str, Any]) -> float:
    """Its accuracy on the report split, in percent."""
    return 100 * next(float(one) for name, one in _deployed(row)["accuracy"].items() if name.startswith("report:"))


def _interval(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:+.2f}" if values else ""
    low, high = interval_of_mean(values)
    return f"{mean(values):+.2f} [{low:.2f}, {high:.2f}]"


def interval_of_mean(values: list[float]) -> tuple[float, float]:
    """Student's at 95 %, of two values or more."""
    low, high = t.interval(0.95, len(values) - 1, mean(values), stdev(values) / math.sqrt(len(values)))
    return float(low), float(high)


def _mean_known(rows: list[dict[str, Any]], name: str, digits: int) -> str:
    """Empty where older rows do not say it."""
    told = [one[name] for one in rows if one.get(name) is not None]
    return f"{mean(told):.{digits}f}" if told else ""


@click.command(cls=Program)
@click.argument("recipe")
@click.option(
    "--methods", default="dense,taylor,loss", show_default=True, help=f"Of {', '.join(METHODS)}, dense:MODEL."
)
@click.option("--keep", default="0.5", show_default=True, help="Fractions that stay, by commas.")
@click.option("--epochs", default=20, show_default=True)
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.jsonl")
@click.option("--against", default="dense", show_default=True, help="The method that the table sets all others beside.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="That `rl` applies with every seed; else it learns one for each.",
)
@click.option("--device", default=None, help="Where training runs.")
def main(
    recipe: str,
    methods: str,
    keep: str,
    epochs: int,
    seeds: str,
    out: Path,
    against: str,
    policy: Path | None,
    device: str | None,
) -> None:
    """Compile RECIPE with each method, fraction and seed, and print what came out."""
    base = recipe_with({"device": device}, recipe)
    rl = base.prune.rl if policy is None else base.prune.rl.model_copy(update={"policy": policy})
    base = base.model_copy(update={"prune": base.prune.model_copy(update={"rl": rl})})
    asked = [
        (method, float(fraction), int(seed))
        for seed in seeds.split(",")
        for method in methods.split(",")
        for fraction in fractions_of(method, keep.split(","))
    ]
    if unknown := [one for one in methods.split(",") if one not in METHODS and not one.startswith(FAMILY)]:
        raise click.UsageError(f"unknown method {unknown[0]}: {', '.join(METHODS)}, {FAMILY}MODEL")
    for method, fraction, seed in asked:
        key = {"recipe": recipe, "method": method, "keep": fraction, "epochs": epochs, "seed": seed}
        if any(key.items() <= row.items() for row in done(out)):
            continue
        bundle = out.parent / f"{out.stem}-{re.sub(r'[:/]', '-', method)}-{fraction:g}-{seed}"
        found = key | measured(recipe_of(base, method, fraction, epochs, seed), bundle)
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a") as file:
            file.write(json.dumps(found) + "\n")
    rows = [row for row in done(out) if (row["recipe"], row["epochs"]) == (recipe, epochs)]
    click.echo("\n".join(table(rows, against)))


if __name__ == "__main__":
    main()
