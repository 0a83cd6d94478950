"""Residual networks for ImageNet (He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.1).

Shortcuts are the paper's option B: where the shape changes, a 1x1 convolution projects the input. A bottleneck strides
in its 3x3 convolution, not in its first 1x1 (Goyal et al., "Accurate, Large Minibatch SGD", 2017).
Parameters are named as in torchvision, so that published weights load. Small images get the stem of section 4.2 of
the first paper: one 3x3 convolution that keeps their size, and no pooling.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgeprune.models.stem import is_small


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each normalized, around a shortcut."""

    expansion = 1
    """Output channels for one inner channel."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.downsample = _projection(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, width, H / stride, W / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1 that narrow and widen, each normalized, around a shortcut."""

    expansion = 4
    """Output channels for one inner channel."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = _projection(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, 4 * width, H / stride, W / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


class ProjectedResNet(nn.Module):
    """A stem, four stages of blocks, the mean over all positions, one dense layer."""

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        blocks: Sequence[int],
        *,
        input_shape: tuple[int, int, int],
        classes: int,
    ) -> None:
        """`blocks` says how many each of the four stages has."""
        super().__init__()
        small, channels = is_small(input_shape), input_shape[0]
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(channels, 64, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        wide = block.expansion
        self.layer1 = _stage(block, blocks[0], 64, 64, stride=1)
        self.layer2 = _stage(block, blocks[1], 64 * wide, 128, stride=2)
        self.layer3 = _stage(block, blocks[2], 128 * wide, 256, stride=2)
        self.layer4 = _stage(block, blocks[3], 256 * wide, 512, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(512 * wide, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return logits


def resnet18(*, input_shape: tuple[int, int, int], classes: int) -> ProjectedResNet:
    """Two basic blocks a stage; 11.7 million parameters at 1000 classes."""
    return ProjectedResNet(BasicBlock, (2, 2, 2, 2), input_shape=input_shape, classes=classes)


def resnet50(*, input_shape: tuple[int, int, int], classes: int) -> ProjectedResNet:
    """3, 4, 6 and 3 bottlenecks; 25.6 million parameters at 1000 classes."""
    return ProjectedResNet(Bottleneck, (3, 4, 6, 3), input_shape=input_shape, classes=classes)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def _stage(block: type[BasicBlock | Bottleneck], blocks: int, inputs: int, width: int, *, stride: int) -> nn.Sequential:
    first = block(inputs, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width, 1) for _ in range(blocks - 1)))
