"""Check that an ONNX file computes what the torch module computes, in every runtime that is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeprune.backends import LOAD
from edgeprune.errors import DataError, MissingError, ModelError
from edgeprune.models.calling import run
from edgeprune.registry import resolve

OPTIONS: dict[str, dict[str, str]] = {"ort": {}, "openvino": {"INFERENCE_PRECISION_HINT": "f32"}}
BATCHES = (2, 5)
"""Two sizes, so that a batch that was baked in shows."""
SAMPLES = max(BATCHES)
"""As many are needed."""
TOLERANCE = 1e-4
"""Of the largest output, or of 1 where that is smaller: float32 sums in another order differ by about 1e-6."""


def check(model: nn.Module, file: Path, feeds: Mapping[str, NDArray[Any]]) -> float:
    """Return the largest difference between `model` and `file` on the first samples of `feeds`, as TOLERANCE counts it.

    `feeds` holds the model's inputs by name, [N, ...] each. Raises DataError where there are fewer samples than are
    needed, ModelError where a runtime differs by more than TOLERANCE.
    """
    if (fewest := min(map(len, feeds.values()))) < SAMPLES:
        raise DataError(f"{fewest} samples were given to compare {file} with: {SAMPLES} are needed")
    worst = 0.0
    for batch in BATCHES:
        given = {name: array[:batch] for name, array in feeds.items()}
        expected = _torch_outputs(model, given)
        for runtime, options in OPTIONS.items():
            try:
                runner = resolve(LOAD, runtime, "backend")({"model": file}, options, threads=1, batch=batch)
            except MissingError:
                continue
            with runner:
                found = runner.infer({name: given[name] for name in runner.input_names})
            for name, wanted in expected.items():
                difference = _difference(wanted, found[name]) / max(1.0, float(np.max(np.abs(wanted))))
                if not difference <= TOLERANCE:  # `not <=` so that NaN fails
                    which = f"'{name}' of " if len(expected) > 1 else ""
                    raise ModelError(
                        f"{file}: {which}{runtime} at batch {batch} differs from the torch model by {difference:.3g}"
                        f" of its largest output (allowed {TOLERANCE:g}): the export is not faithful"
                    )
                worst = max(worst, difference)
    return worst


def _difference(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    if wanted.shape != found.shape:
        return float("inf")
    return float(np.max(np.abs(wanted.astype(np.float64) - found.astype(np.float64)), initial=0.0))


def _torch_outputs(model: nn.Module, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    training = model.training
    model.eval()
    with torch.no_grad():
        outputs = run(model, {name: torch.from_numpy(array) for name, array in feeds.items()})
    model.train(training)
    return {name: one.numpy() for name, one in outputs.items()}
