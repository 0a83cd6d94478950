"""Check that an ONNX file computes what the torch module computes, in every runtime that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeprune.backends import LOAD
from edgeprune.errors import DataError, MissingError, ModelError
from edgeprune.registry import resolve

OPTIONS: dict[str, dict[str, str]] = {"ort": {}, "openvino": {"INFERENCE_PRECISION_HINT": "f32"}}
BATCHES = (2, 5)
"""Two sizes, so that a batch that was baked in shows."""
TOLERANCE = 1e-4
"""Of the largest output, or of 1 where that is smaller: float32 sums in another order differ by about 1e-6."""


def check(model: nn.Module, file: Path, example: NDArray[Any]) -> float:
    """Return the largest absolute difference between `model` and `file` on the first samples of `example` [N, C, H, W].

    Raises DataError where `example` has fewer samples than are needed, ModelError where a runtime differs by more
    than TOLERANCE.
    """
    if len(example) < max(BATCHES):
        raise DataError(f"{len(example)} samples were given to compare {file} with: {max(BATCHES)} are needed")
    worst = 0.0
    for runtime, options in OPTIONS.items():
        for batch in BATCHES:
            try:
                runner = resolve(LOAD, runtime, "backend")({"model": file}, options, threads=1, batch=batch)
            except MissingError:
                continue
            with runner:
                x = example[:batch]
                outputs = runner.infer({runner.input_names[0]: x})
                found = [outputs[name] for name in runner.output_names]
            for expected, output in zip(_torch_outputs(model, x), found, strict=True):
                difference = float(np.max(np.abs(expected - output)))
                # `not <=` so that NaN fails
                if not difference <= TOLERANCE * max(1.0, float(np.max(np.abs(expected)))):
                    raise ModelError(
                        f"{file}: {runtime} at batch {batch} differs from the torch model by {difference:.3g}"
                        f" (allowed {TOLERANCE:g}): the export is not faithful"
                    )
                worst = max(worst, difference)
    return worst


def _torch_outputs(model: nn.Module, x: NDArray[Any]) -> list[NDArray[Any]]:
    training = model.training
    model.eval()
    with torch.no_grad():
        result = model(torch.from_numpy(x))
    model.train(training)
    return [one.numpy() for one in (result if isinstance(result, tuple | list) else (result,))]
