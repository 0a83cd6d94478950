"""What a compile would do: which stages, for how long, and how large the result gets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgeprune.cache import Rehearsal, Rehearsed, StageCache
from edgeprune.errors import MissingError
from edgeprune.interleaved.settings import Settings
from edgeprune.meters.meter import detect
from edgeprune.pipeline.compile import prepare, stages, variants
from edgeprune.pipeline.job import Job
from edgeprune.progress import SILENT, Progress
from edgeprune.recipe import Recipe
from edgeprune.targets.target import Target

BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 4.0, "int8": 1.0, "mixed": 1.0, "int4": 0.5}
"""Per weight on disk, at most; bfloat16 is the runtime's doing, from a file in float32."""


@dataclass(frozen=True)
class Forecast:
    """A job, foreseen."""

    stages: tuple[Rehearsed, ...]
    """Up to the bundle, in order."""
    variants: tuple[str, ...]
    parameters: int
    epochs: int
    """That are still to be trained, in all stages together."""
    epoch_seconds: float | None
    """From a few timed steps of the unpruned network; None where nothing is to be trained."""
    measure_seconds: float | None
    """At least, without judging accuracy; None where nothing is measured because the device is not here."""
    disk_bytes: int
    """Of the bundle, about: weights alone, unpruned."""


def forecast(
    recipe: Recipe,
    target: Target,
    *,
    out: Path,
    backends: tuple[str, ...] | None,
    cache: StageCache,
    speed_only: bool,
    progress: Progress = SILENT,
) -> Forecast:
    """Go through the motions of `compile_bundle`, and make nothing but a few steps of training to time them.

    Raises what `compile_bundle` raises before its first stage.
    """
    rehearsal = Rehearsal(cache.root, cache.again)
    job = prepare(recipe, target, backends, rehearsal, progress, speed_only=speed_only)
    from edgeprune.pipeline import assemble, network  # they import torch and onnx: not before both are here

    assemble.check_out(out.resolve())
    assemble.assemble(job, stages(job))
    asked = tuple(rehearsal.asked)
    named = {stage.name: stage.done for stage in asked}
    epochs = 0
    if not speed_only and not recipe.has_weights and not named.get("train", True):
        epochs += recipe.train.epochs
    if not named.get("recover", True):
        again = recipe.train.recover_epochs
        epochs += recipe.train.epochs if again is None else again
    if not named.get("learn", True):
        how, rows = recipe.prune.rl, len(job.splits.digests["train"])
        epochs += math.ceil(how.episodes * how.episode_epochs * min(how.episode_samples, rows) / rows)
    chosen = variants(target, backends, recipe.quantize.precision)
    parameters = network.parameters(job) if not job.from_onnx else _weights_of(recipe.model)
    return Forecast(
        asked,
        tuple(f"{backend}-{precision}" for backend, precision in chosen),
        parameters,
        epochs,
        network.epoch_seconds(job) if epochs else None,
        _measure_seconds(job, len(chosen) + 1) if target.local else None,
        round(parameters * (BYTES["fp32"] + sum(BYTES[precision] for _, precision in chosen))),
    )


def _measure_seconds(job: Job, workers: int) -> float:
    """Warm-up and slices of every worker in every restart; a meter, where there is one, takes its own time."""
    settings = Settings()
    timed = settings.restarts * workers * (settings.warm_min_s + settings.seconds)
    try:
        detect(job.target.meters).close()
    except MissingError:
        return timed
    return timed + workers * settings.energy_s


def _weights_of(file: str) -> int:
    """Numbers in a graph's weights, about: its bytes, four to each."""
    return Path(file).stat().st_size // 4
