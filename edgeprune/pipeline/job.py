"""One job under way: what was asked for, and the cache its stages are kept in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeprune.cache import Stage, StageCache
from edgeprune.data.splits import Splits
from edgeprune.progress import Progress
from edgeprune.recipe import Recipe
from edgeprune.targets.target import Target

# Packages that decide what a stage leaves behind; another version is another stage.
MAKERS = ("torch", "torch-pruning", "onnx", "onnx-ir", "onnxscript", "onnxsim", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Job:
    """What every stage needs to know."""

    recipe: Recipe
    target: Target
    splits: Splits
    cache: StageCache
    progress: Progress
    backends: tuple[str, ...] | None
    """Those asked for; None: all of the target's."""
    untrained: bool

    @property
    def from_onnx(self) -> bool:
        """Whether the model came as a graph, so that nothing is trained or pruned."""
        return self.recipe.model.endswith(".onnx")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[C, H, W] of one sample."""
        height, width, channels = self.splits.info.shape
        return channels, height, width

    def stage(
        self, name: str, inputs: Mapping[str, Any], work: Callable[[Path], None], *, code: tuple[str, ...], **how: bool
    ) -> Stage:
        """A stage of this job; its inputs are completed by the versions of the libraries that do the work.

        `code` need not name this package and the recipe, which every stage depends on.
        """
        inputs = {**inputs, "versions": versions()}
        stage = self.cache.run(name, inputs, work, code=(*code, "pipeline", "recipe"), progress=self.progress, **how)
        if stage.reused:
            self.progress.say(f"{name}: done before")
        return stage


def versions() -> dict[str, str]:
    """Installed versions of the packages that make a bundle."""
    return {package: metadata.version(package) for package in MAKERS}
