"""Samples on a device, a batch at a time: images stay 8-bit, texts lose the padding that a batch has in common."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edgeprune.data.pixels import Pixels
from edgeprune.data.preprocess import Preprocess, feeds
from edgeprune.data.samples import Samples
from edgeprune.data.squad import targets as token_targets
from edgeprune.data.wordpiece import WordPiece
from edgeprune.errors import ConfigError, DataError, MissingError
from edgeprune.judge import QUESTIONS, REGRESSION
from edgeprune.tensor import IMAGE, MASK, TensorSpec

PAD = 4
"""Pixels that augmentation pads an image with."""


class Batches(Protocol):
    """All samples of a training, preprocessed as far as they are kept."""

    @property
    def targets(self) -> Tensor:
        """The right answers [N]; of questions the tokens that an answer starts and ends with, [N, 2]."""
        ...

    def take(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The model's inputs for some rows."""
        ...

    def content(self) -> str:
        """Hash of the samples and their answers."""
        ...


@dataclass(frozen=True)
class ImageBatches:
    """Images uint8 [N, H, W, C]."""

    images: Tensor
    targets: Tensor
    preprocess: Pixels
    name: str
    """Of the model's input."""
    augmented: bool

    def take(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Normalized float32 images in the model's layout, with the channels last in memory."""
        images = self.images[rows]
        if self.augmented:
            images = augment(images, generator)
        x = to_input(images, self.preprocess)
        in_memory = torch.channels_last if self.preprocess.layout == "NCHW" else torch.contiguous_format
        return {self.name: x.contiguous(memory_format=in_memory)}

    def content(self) -> str:
        """Hash of the pixels and their answers."""
        return _hash([self.images, self.targets])


@dataclass(frozen=True)
class TensorBatches:
    """A model's inputs, all preprocessed."""

    tensors: dict[str, Tensor]
    targets: Tensor
    lengths: Tensor | None
    """[N]: tokens of a text before its padding; None where nothing may be cut off."""

    def take(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Some rows, without the columns that are padding in all of them."""
        if self.lengths is None:
            return {name: tensor[rows] for name, tensor in self.tensors.items()}
        longest = max(int(self.lengths[rows].max()), 1)
        return {name: tensor[rows, :longest] for name, tensor in self.tensors.items()}

    def content(self) -> str:
        """Hash of the tensors and their answers."""
        return _hash([*self.tensors.values(), self.targets])


def load_batches(
    samples: Samples,
    preprocess: Preprocess,
    inputs: Sequence[TensorSpec],
    device: torch.device,
    *,
    task: str,
    augmented: bool,
) -> ImageBatches | TensorBatches:
    """Put samples on a device, as `inputs`, those of the model, want them.

    Raises DataError where there are none, they have no answers or do not fit; ConfigError where what is to be
    augmented is no image.
    """
    if not len(samples):
        raise DataError("no samples to train on")
    if samples.labels is None:
        raise DataError("samples without labels: nothing can be learnt from them: give --weights")
    answers = _targets(samples, preprocess, task).to(device)
    if isinstance(preprocess, Pixels):
        images = torch.from_numpy(np.array(samples.columns[IMAGE])).to(device)
        return ImageBatches(images, answers, preprocess, inputs[0].name, augmented)
    if augmented:
        raise ConfigError(
            "train.augment: pads, crops and mirrors images, these data are none: leave it and recover_augment out"
        )
    given = preprocess(samples.columns)
    tensors = {name: torch.from_numpy(array).to(device) for name, array in feeds(inputs, given).items()}
    lengths = None
    if isinstance(preprocess, WordPiece) and all(tensor.ndim == 2 for tensor in tensors.values()):
        lengths = torch.from_numpy(given[MASK].sum(axis=1)).to(device)
    return TensorBatches(tensors, answers, lengths)


def device_for(name: str) -> torch.device:
    """`cpu`, `cuda` or `cuda:1`. Raises MissingError where it is not here, ConfigError where it is no such name."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r}: write cpu, cuda or cuda:0") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r}: write cpu, cuda or cuda:0")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingError(f"device {name!r}: PyTorch sees {torch.cuda.device_count()} CUDA devices: use --device cpu")
    return device


def to_input(images: Tensor, preprocess: Pixels) -> Tensor:
    """Images uint8 [N, H, W, C] as `preprocess` gives them: float32 in its layout, the same to the last bit."""
    images = images.flip(-1) if preprocess.channels == "BGR" else images
    mean = torch.tensor(preprocess.mean, dtype=torch.float32, device=images.device)
    std = torch.tensor(preprocess.std, dtype=torch.float32, device=images.device)
    x = images.to(torch.float32) / torch.tensor(preprocess.levels, dtype=torch.float32, device=images.device)
    x = (x - mean) / std
    return x.permute(0, 3, 1, 2).contiguous() if preprocess.layout == "NCHW" else x


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pad images [N, H, W, C] by 4 black pixels, crop each at random to its old size, mirror every other at random.

    He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.2.
    """
    n, height, width, _ = images.shape
    top, left = torch.randint(0, 2 * PAD + 1, (2, n), generator=generator)
    mirrored = torch.rand(n, generator=generator) < 0.5
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = torch.nn.functional.pad(images, (0, 0, PAD, PAD, PAD, PAD))
    which, rows, columns = (index.to(images.device) for index in (torch.arange(n), rows, columns))
    return padded[which[:, None, None], rows[:, :, None], columns[:, None, :]]


def _targets(samples: Samples, preprocess: Preprocess, task: str) -> Tensor:
    if task == QUESTIONS:
        if not isinstance(preprocess, WordPiece):
            raise ConfigError("questions are answered by tokens of a text: these data hold none")
        spans = token_targets(preprocess, samples)
        return torch.from_numpy(np.stack([spans["start"], spans["end"]], axis=1))
    return torch.from_numpy(np.array(samples.labels, np.float32 if task == REGRESSION else np.int64))


def _hash(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
