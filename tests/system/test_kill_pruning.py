"""A training in which a network is pruned, killed within an epoch and begun again, ends as one that never was."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

KILLS = 3
MADE = ("pruned.safetensors", "pruning.json")
LEARNED = ("policy.safetensors", "learning.json")
TRAIN = "train: {epochs: 1, recover_epochs: 12, batch: 32}\n"
RECIPES = {
    "rl": "model: cnn\nprune: {pruner: rl, keep: 0.6, rl: {every_epochs: 3, episodes: 30, episode_epochs: 3,"
    " episode_samples: 256}}\n",
    "loss": "model: cnn\nprune: {pruner: loss, keep: 0.4, loss: {connections: 0.2}}\n",
    "fine": "model: lenet5\nprune: {pruner: dynamic, sparsity: 0.8, dynamic: {every_steps: 20}}\n",
    "coarse": "model: lenet5\nprune: {pruner: dynamic, keep: 0.6, dynamic: {schedule: coarse, every_epochs: 3}}\n",
}


def start(recipe: Path, out: Path, cache: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgeprune", "prune", "--recipe", str(recipe), "--out", str(out)],
        env=os.environ | {"EDGEPRUNE_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(recipe: Path, out: Path, cache: Path) -> dict[str, bytes]:
    run = start(recipe, out, cache)
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors.decode()
    return {name: (out / name).read_bytes() for name in (*MADE, *LEARNED) if name in MADE or (out / name).exists()}


def killed_in(stage: str, run: subprocess.Popen[bytes], cache: Path, delay: float) -> bool:
    """Whether it could be killed within an epoch or episode of that stage that is not its first."""
    began = time.time_ns()
    while run.poll() is None:
        with suppress(FileNotFoundError):
            if any(path.stat().st_mtime_ns > began for path in cache.glob(f"{stage}/*/checkpoint")):
                time.sleep(delay)
                run.kill()
                run.wait()
                return any(cache.glob(f"{stage}/*/checkpoint"))
        time.sleep(0.005)
    return False


@pytest.mark.parametrize("name", RECIPES)
def test_killed_while_it_is_pruned_it_ends_with_the_same_weights_and_masks(name, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPES[name] + TRAIN)
    unbroken = finish(recipe, tmp_path / "unbroken", tmp_path / "cache")
    delays = random.Random(7)
    for stage in ("learn", "recover") if name == "rl" else ("recover",):
        kills = 0
        for _ in range(KILLS):
            run = start(recipe, tmp_path / "out", tmp_path / "killed")
            kills += killed_in(stage, run, tmp_path / "killed", 0.2 * delays.random())
        assert kills >= 2, f"the trainings of {stage} were over too soon"
    assert finish(recipe, tmp_path / "out", tmp_path / "killed") == unbroken
