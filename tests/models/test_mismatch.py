from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune.data.datasets import describe, read
from edgeprune.models.mismatch import mismatch
from edgeprune.models.zoo import build, load_weights
from edgeprune.recipe import Rows

NETWORKS = ("resnet20", "resnet32", "resnet56")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
REAL = ("cifar10:train", "cifar10:test", "cifar10_jpeg75:test")


def trained(mean: float, variance: float) -> nn.Module:
    layer = nn.BatchNorm1d(1, eps=0)
    layer.running_mean.fill_(mean)
    layer.running_var.fill_(variance)
    return nn.Sequential(layer)


def column(x) -> list[dict[str, torch.Tensor]]:
    return [{"input": part} for part in torch.tensor(np.asarray(x), dtype=torch.float32).reshape(-1, 1).split(100)]


@pytest.mark.parametrize(("mean", "variance"), [(1.0, 4.0), (0.0, 4.0), (1.0, 1.0), (-3.0, 0.25)])
def test_it_is_the_distance_of_two_normal_distributions(mean, variance):
    """H^2 = 1/2 integral (sqrt(p) - sqrt(q))^2, here numerically, between N(1, 4) and another."""
    x = np.random.default_rng(0).normal(size=1000)
    x = 1 + 2 * (x - x.mean()) / x.std()
    at = np.linspace(-40, 40, 400_001)

    def density(mean, variance):
        return np.exp(-((at - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    roots = np.sqrt(density(1, 4)) - np.sqrt(density(mean, variance))
    expected = np.sqrt(0.5 * np.sum(roots**2) * (at[1] - at[0]))
    assert mismatch(trained(mean, variance), column(x)) == pytest.approx(expected, abs=2e-3)


def test_it_is_at_most_one_for_a_channel_that_was_dead_and_is_not():
    assert mismatch(trained(0, 1e-30), column([5, 7, 9])) == pytest.approx(1)


def test_a_network_without_trained_normalizations_cannot_tell():
    assert mismatch(nn.Sequential(nn.Linear(1, 2)), column([1, 2])) is None
    assert mismatch(build("resnet20", {"input_shape": [3, 32, 32], "classes": 10}), []) is None
    assert mismatch(nn.Sequential(nn.BatchNorm1d(1, track_running_stats=False)), column([1, 2])) is None


def test_the_network_is_left_as_it_was():
    model = trained(0, 2).train()
    mismatch(model, column(np.arange(300)))
    assert model.training
    assert model[0].running_mean == 0
    assert not model[0]._forward_pre_hooks


def test_only_the_deepest_third_decides():
    model = nn.Sequential(*(trained(mean, 2.0)[0] for mean in (100, 50, 0)))
    for layer in model:
        layer.weight.data.fill_(0)  # what reaches the last one is its bias
    assert mismatch(model, column(np.arange(200))) == pytest.approx(1, abs=0.01)  # constant where it was not
    model[1].weight.data.fill_(1)
    assert mismatch(model, column(np.arange(200))) > 0.5


@pytest.fixture(scope="module", params=NETWORKS)
def distance(request, shared_data):
    weights = shared_data.parent / "models" / "resnet_cifar10" / f"{request.param}.safetensors"
    if not weights.is_file():
        pytest.skip(f"no {weights.name} beside the data")
    model = build(request.param, {"input_shape": [3, 32, 32], "classes": 10})
    load_weights(model, weights)

    def distance(x) -> float:
        """Of normalized images [N, H, W, C]."""
        parts = torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)), dtype=torch.float32).split(32)
        return mismatch(model, [{"input": part} for part in parts])

    return distance


def images(rows: str, count: int = 128) -> np.ndarray:
    return read(Rows(source=rows, stop=count), describe(rows.partition(":")[0])).columns["image"]


def normalized(x: np.ndarray) -> np.ndarray:
    return (x / 255 - MEAN) / STD


@pytest.mark.parametrize("rows", REAL)
def test_real_images_are_near_however_few(distance, rows):
    assert distance(normalized(images(rows))) < 0.07
    assert distance(normalized(images(rows, 16))) < 0.1


def test_noise_with_the_right_mean_and_spread_is_far(distance):
    real, random = normalized(images("cifar10:train")), np.random.default_rng(0)
    right = random.normal(real.mean((0, 1, 2)), real.std((0, 1, 2)), real.shape)
    shuffled = random.permuted(real.reshape(len(real), -1, 3), axis=1).reshape(real.shape)
    uniform = normalized(random.integers(0, 256, real.shape))
    assert min(map(distance, (right, shuffled, uniform))) > 0.22


def test_a_wrong_scale_is_far(distance):
    x = images("cifar10:train")
    assert distance(x / 255) > 0.21  # without mean and deviation
    assert distance(x.astype(float)) > 0.5
    assert distance((x / 255 / 255 - MEAN) / STD) > 0.4
