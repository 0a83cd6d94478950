"""The options that say what a job is, for every command that does one or a part of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgeprune.cli.output import OneOf

# As in edgeprune.recipe, which is not imported before a command runs; a test holds the two together.
PRUNERS = ("none", "uniform", "magnitude", "taylor", "loss", "dynamic", "rl")
REMOVED = ("channels", "blocks")
SCHEDULES = ("one-shot", "linear", "cubic")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "mixed", "int4")
OBSERVERS = ("minmax", "moving-average", "percentile", "mse", "entropy")
TASKS = ("classification", "regression", "question-answering", "none")

_FILE = click.Path(path_type=Path)
_OPTIONS: dict[str, Callable[..., Any]] = {
    "target": click.option(
        "--target", default="cpu", show_default=True, metavar="NAME", help="Device type, or a file."
    ),
    "data": click.option(
        "--data", metavar="NAME|DIR", help="Data set, or a folder of images, Parquet or .npz.  [digits]"
    ),
    "weights": click.option("--weights", type=_FILE, metavar="FILE", help="Trained weights, as safetensors."),
    "recipe": click.option("--recipe", metavar="NAME|FILE", help="The whole job as YAML; other options override it."),
    "calibration": click.option("--calibration", metavar="NAME|FILE", help="Calibration set."),
    "preprocess": click.option("--preprocess", type=_FILE, metavar="FILE", help="What is done to samples, as YAML."),
    "vocabulary": click.option("--vocabulary", type=_FILE, metavar="FILE", help="vocab.txt or tokenizer.json."),
    "length": click.option("--length", type=int, metavar="N", help="Tokens of a text."),
    "inputs": click.option(
        "--input", "inputs", multiple=True, metavar="NAME:DTYPE[SIZES]", help="A graph's input; repeat for more."
    ),
    "task": click.option(
        "--task", type=OneOf("task", TASKS), help="What is asked of the model, if not what the data say."
    ),
    "metric": click.option(
        "--metric", metavar="FILE.py:FN", help="Scores outputs, in place of the data's own metrics."
    ),
    "pruner": click.option(
        "--pruner", type=OneOf("pruner", PRUNERS), help="What decides what is removed.  [magnitude]"
    ),
    "keep": click.option("--keep", type=float, metavar="FRACTION", help="Of the multiply-accumulates.  [0.5]"),
    "sparsity": click.option(
        "--sparsity", type=float, metavar="FRACTION", help="Of the weights that goes, in place of --keep."
    ),
    "remove": click.option(
        "--remove", type=OneOf("part", REMOVED), help="Channels, units and heads; or whole blocks.  [channels]"
    ),
    "schedule": click.option(
        "--schedule", type=OneOf("schedule", SCHEDULES), help="At once, or while it is trained on.  [one-shot]"
    ),
    "distill": click.option(
        "--distill", type=float, metavar="SHARE", help="Of the unpruned network's answers in the loss.  [0.0]"
    ),
    "precision": click.option(
        "--precision", type=OneOf("precision", PRECISIONS), help="The lowest that is made.  [int8]"
    ),
    "plan": click.option("--plan", type=_FILE, metavar="FILE", help="Precision of every layer, for --precision mixed."),
    "observer": click.option(
        "--observer",
        type=OneOf("observer", OBSERVERS),
        help="Takes ranges from what calibration shows; else as its set says.",
    ),
    "latency_table": click.option(
        "--latency-table", type=_FILE, metavar="FILE", help="Foretells latency on the target."
    ),
    "epochs": click.option("--epochs", type=int, metavar="N", help="Of training, and again after pruning.  [30]"),
    "quantize_epochs": click.option(
        "--quantize-epochs", type=int, metavar="N", help="Of training with the rounding in place.  [0]"
    ),
    "seed": click.option("--seed", type=int, metavar="N", help="Of all that is random.  [0]"),
    "device": click.option("--device", metavar="NAME", help="Where training runs: cpu, cuda.  [cpu]"),
    "force": click.option("--force", is_flag=True, help="Do finished stages again."),
}


def job_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options, in this order."""

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        for name in reversed(names):
            command = _OPTIONS[name](command)
        return command

    return with_options
