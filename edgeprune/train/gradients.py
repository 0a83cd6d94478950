"""The gradients of some batches, without changing a weight."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from edgeprune.data.preprocess import Preprocess
from edgeprune.data.samples import Samples
from edgeprune.models.calling import inputs_of, run
from edgeprune.recipe import TrainPart
from edgeprune.train.batches import device_for, load_batches
from edgeprune.train.loss import check_trainable, loss_of


def gradients(
    model: nn.Module,
    samples: Samples,
    preprocess: Preprocess,
    part: TrainPart,
    *,
    task: str,
    seed: int,
    batches: int,
) -> Iterator[int]:
    """Leave the gradients of the loss in `.grad`, of another batch of `part.batch` at every turn; yields its number.

    The network is in evaluation mode meanwhile, so that its statistics stay as they are, and on the CPU afterwards,
    without gradients. Raises what `fit` raises before it trains.
    """
    check_trainable(task)
    device, was_training = device_for(part.device), model.training
    inputs = inputs_of(model, preprocess.specs)
    model.to(device).eval()
    generator = torch.Generator().manual_seed(seed)
    some = samples.part(torch.randperm(len(samples), generator=generator)[: batches * part.batch].tolist())
    data = load_batches(some, preprocess, inputs, device, task=task, augmented=False)
    order = torch.arange(len(data.targets), device=device)  # drawn at random already
    # cuDNN has no backward pass of a recurrent layer in evaluation mode
    with torch.backends.cudnn.flags(enabled=not any(isinstance(one, nn.RNNBase) for one in model.modules())):
        for number, rows in zip(range(batches), torch.split(order, part.batch), strict=False):
            model.zero_grad(set_to_none=True)
            loss = loss_of(task, run(model, data.take(rows, generator)), data.targets[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            yield number
    model.zero_grad(set_to_none=True)
    model.cpu().train(was_training)
