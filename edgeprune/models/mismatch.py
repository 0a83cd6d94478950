"""How far what a network's batch normalizations see lies from what they saw in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeprune.models.calling import run

DEEPEST = 1 / 3
"""Of the normalizations that decide: the first ones feel brightness and contrast, the last ones what an image shows."""


class _Moments:
    """Mean and variance of each channel, over all that one normalization is given."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._squares = torch.zeros((), dtype=torch.float64)

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach().to("cpu", torch.float64)
        x = x.movedim(1, 0).flatten(1)
        self._count += x.shape[1]
        self._sum, self._squares = self._sum + x.sum(1), self._squares + x.square().sum(1)

    @property
    def mean(self) -> Tensor:
        """[C]."""
        return self._sum / self._count

    @property
    def variance(self) -> Tensor:
        """[C]."""
        return (self._squares / self._count - self.mean.square()).clamp(min=0)


def mismatch(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> float | None:
    """0 where each channel has the mean and spread it had in training, 1 where nothing is left of them.

    The mean, over the channels of the deepest third of the normalizations, of the Hellinger distance between the normal
    distributions N(m, v) of what a channel is given here and N(M, V) of its running statistics,

        H^2 = 1 - sqrt(2 sqrt(v V) / (v + V)) exp(-(m - M)^2 / (4 (v + V))).

    It is bounded, so that no dead channel outweighs the others. None where no normalization has seen a training.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and _is_trained(layer)]
    if not layers:
        return None
    found: dict[nn.Module, _Moments] = {}  # in the order of the forward pass, which is that of depth

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.setdefault(layer, _Moments())(layer, inputs)

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                run(model, batch)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    distances = [_distance(layer, moments) for layer, moments in found.items() if isinstance(layer, _BatchNorm)]
    deepest = distances[-max(round(DEEPEST * len(distances)), 1) :]
    return sum(deepest) / len(deepest) if deepest else None


def _is_trained(layer: _BatchNorm) -> bool:
    """Whether it has statistics, and other ones than those it begins with."""
    mean, variance = layer.running_mean, layer.running_var
    return mean is not None and variance is not None and not (bool((mean == 0).all()) and bool((variance == 1).all()))


def _distance(layer: _BatchNorm, seen: _Moments) -> float:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    mean, variance = layer.running_mean.to("cpu", torch.float64), layer.running_var.to("cpu", torch.float64) + layer.eps
    both, spread = variance + seen.variance + layer.eps, (seen.variance + layer.eps) * variance
    overlap = (2 * spread.sqrt() / both).sqrt() * torch.exp(-(mean - seen.mean).square() / (4 * both))
    return float((1 - overlap).clamp(min=0).sqrt().mean())
