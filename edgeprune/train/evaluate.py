"""What a network says to samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeprune.data.preprocess import Preprocess, feeds
from edgeprune.data.samples import Samples
from edgeprune.errors import DataError
from edgeprune.models.calling import inputs_of, run
from edgeprune.train.batches import device_for


def evaluate(
    model: nn.Module, samples: Samples, preprocess: Preprocess, *, device: str = "cpu", batch: int = 256
) -> dict[str, NDArray[np.float32]]:
    """The outputs [F, ...] by name for all samples, in order; F rows where preprocessing makes several of one.

    The model stays on `device`; its mode is given back. Raises DataError where there are no samples.
    """
    parts = (samples.part(slice(start, start + batch)) for start in range(0, len(samples), batch))
    return evaluate_parts(model, parts, preprocess, device=device)


def evaluate_parts(
    model: nn.Module, parts: Iterable[Samples], preprocess: Preprocess, *, device: str = "cpu"
) -> dict[str, NDArray[np.float32]]:
    """The same for samples that come a part at a time, each of which is one batch."""
    where = device_for(device)
    inputs = inputs_of(model, preprocess.specs)
    was_training = model.training
    model.to(where).eval()
    found: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    with torch.inference_mode():
        for part in parts:
            given = feeds(inputs, preprocess(part.columns))
            outputs = run(model, {name: torch.from_numpy(array).to(where) for name, array in given.items()})
            for name, output in outputs.items():
                found[name].append(output.float().cpu().numpy())
    model.train(was_training)
    if not found:
        raise DataError("no samples to evaluate")
    return {name: np.concatenate(arrays) for name, arrays in found.items()}
