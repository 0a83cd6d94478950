"""One job under way: what was asked for, and the cache its stages are kept in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeprune.cache import Stage, StageCache
from edgeprune.data.pixels import Pixels
from edgeprune.data.splits import Splits
from edgeprune.data.wordpiece import WordPiece
from edgeprune.judge import REGRESSION
from edgeprune.progress import Progress
from edgeprune.recipe import QUANTIZED, Recipe
from edgeprune.targets.target import Target
from edgeprune.tensor import TensorSpec

# Packages that decide what a stage leaves behind; another version is another stage.
MAKERS = (
    *("torch", "torch-pruning", "onnx", "onnx-ir", "onnxscript", "onnxsim", "onnxruntime", "numpy"),
    *("openvino", "pillow", "safetensors", "tokenizers", "transformers"),
)


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
    def runtimes(self) -> tuple[str, ...]:
        """The target's, of those asked for, in its order."""
        return tuple(name for name in self.target.backends if self.backends is None or name in self.backends)

    @property
    def from_onnx(self) -> bool:
        """Whether the model came as a graph, so that nothing is trained or pruned."""
        return self.recipe.is_graph

    @property
    def tunes(self) -> bool:
        """Whether weights are trained on with rounding in place."""
        part = self.recipe.quantize
        return part.epochs > 0 and part.precision in QUANTIZED and not (self.untrained or self.from_onnx)

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """The tensors that the data give, preprocessed, with a free `batch` in front."""
        return self.splits.preprocess.specs

    @property
    def arguments(self) -> dict[str, Any]:
        """What the data say of the model, by the names under which a factory may take it."""
        info, preprocess = self.splits.info, self.splits.preprocess
        found: dict[str, Any] = {"classes": 1 if info.task == REGRESSION else len(info.classes), "task": info.task}
        found["labels"] = list(info.classes)
        if isinstance(preprocess, Pixels):
            height, width, channels = preprocess.shape
            return found | {"input_shape": [channels, height, width]}
        if isinstance(preprocess, WordPiece):
            return found | {"length": preprocess.length, "vocabulary": preprocess.vocabulary_size}
        return found | {"inputs": {spec.name: [spec.dtype, list(spec.shape)] for spec in self.specs}}

    @property
    def metrics(self) -> tuple[str, ...]:
        """How answers are scored: not at all where the weights are random or nothing is labelled."""
        if self.untrained or self.splits.info.label is None:
            return ()
        metric = self.recipe.data.metric
        return self.splits.info.metrics if metric is None else (metric.rpartition(":")[2],)

    @property
    def observer(self) -> str:
        """How ranges are taken from the values seen: as the recipe says, else as the calibration set does."""
        return self.recipe.quantize.observer or self.splits.observer

    def tensors(self, split: str, count: int) -> dict[str, NDArray[Any]]:
        """The first samples of a split, preprocessed: `count` rows [count, ...] of each tensor."""
        given = self.splits.preprocess(self.splits.first(split, count).columns)
        return {name: array[:count] for name, array in given.items()}

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
    """Installed versions of the packages that make a bundle; some are needed for some jobs only."""
    found = {}
    for package in MAKERS:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
