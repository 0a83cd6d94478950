"""Batches on a device: samples stay 8-bit until the batch that holds them is used."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeprune.data.preprocess import Preprocess
from edgeprune.errors import ConfigError, MissingError

PAD = 4


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


def to_input(images: Tensor, preprocess: Preprocess) -> Tensor:
    """Images uint8 [N, H, W, C] as `preprocess` gives them: float32 [N, C, H, W], the same to the last bit."""
    mean = torch.tensor(preprocess.mean, dtype=torch.float32, device=images.device)
    std = torch.tensor(preprocess.std, dtype=torch.float32, device=images.device)
    x = images.to(torch.float32) / torch.tensor(preprocess.levels, dtype=torch.float32, device=images.device)
    return ((x - mean) / std).permute(0, 3, 1, 2).contiguous()


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
