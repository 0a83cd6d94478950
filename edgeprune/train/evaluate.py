"""What a network says to samples."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeprune.data.datasets import Samples
from edgeprune.data.preprocess import Preprocess
from edgeprune.errors import DataError
from edgeprune.train.batches import device_for, to_input


def evaluate(
    model: nn.Module, samples: Samples, preprocess: Preprocess, *, device: str = "cpu", batch: int = 256
) -> NDArray[np.float32]:
    """The scores [N, classes] of all samples, in order. The model stays on `device`; its mode is given back.

    Raises DataError where there are no samples.
    """
    if not len(samples):
        raise DataError("no samples to evaluate")
    where = device_for(device)
    was_training = model.training
    model.to(where).eval()
    scores = []
    with torch.inference_mode():
        for start in range(0, len(samples), batch):
            images = torch.tensor(samples.images[start : start + batch], device=where)
            scores.append(model(to_input(images, preprocess)).float().cpu())
    model.train(was_training)
    joined: NDArray[np.float32] = torch.cat(scores).numpy()
    return joined
