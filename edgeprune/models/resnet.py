"""Residual networks for 32x32 images (He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.2).

Three stages of n blocks with 16, 32 and 64 channels; 6n + 2 layers. Shortcuts are the paper's option A and hold no
weights: where the shape changes, the input is subsampled and its channels are padded with zeros. Parameters are named
as in the networks of `akamaster/pytorch_resnet_cifar10`, so that their weights load.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3x3 convolutions, each normalized, around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.stride = stride
        self.pad = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(y + self._shortcut(x))
        return out

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.pad == 0:
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))


class CifarResNet(nn.Module):
    """A stem, three stages of `blocks` blocks, the mean over all positions, one dense layer."""

    def __init__(self, blocks: int, *, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(blocks, 16, 16, stride=1)
        self.layer2 = _stage(blocks, 16, 32, stride=2)
        self.layer3 = _stage(blocks, 32, 64, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self.flatten(self.pool(x)))
        return logits


def resnet20(*, input_shape: tuple[int, int, int], classes: int) -> CifarResNet:
    """Three blocks a stage; 0.27 million parameters."""
    return CifarResNet(3, input_shape=input_shape, classes=classes)


def resnet32(*, input_shape: tuple[int, int, int], classes: int) -> CifarResNet:
    """Five blocks a stage; 0.46 million parameters."""
    return CifarResNet(5, input_shape=input_shape, classes=classes)


def resnet44(*, input_shape: tuple[int, int, int], classes: int) -> CifarResNet:
    """Seven blocks a stage; 0.66 million parameters."""
    return CifarResNet(7, input_shape=input_shape, classes=classes)


def resnet56(*, input_shape: tuple[int, int, int], classes: int) -> CifarResNet:
    """Nine blocks a stage; 0.85 million parameters."""
    return CifarResNet(9, input_shape=input_shape, classes=classes)


def _stage(blocks: int, inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    first = Block(inputs, outputs, stride)
    return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))
