"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018), width 1.

Parameters are named as in torchvision, so that published weights load. Small images are halved three times, not five:
the first convolution and the first stage that would halve them keep their size.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgeprune.models.stem import is_small

STAGES = (
    # expansion, output channels, blocks, stride of the first: table 2 of the paper
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without a ReLU; a shortcut where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([_normalized(inputs, width, kernel=1)] if expansion > 1 else []),
            _normalized(width, width, kernel=3, stride=stride, groups=width),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """A stem, seven stages of inverted residuals, a 1x1 convolution, the mean over all positions, one dense layer."""

    def __init__(self, *, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        small, width = is_small(input_shape), 32
        layers: list[nn.Module] = [_normalized(input_shape[0], width, kernel=3, stride=1 if small else 2)]
        for index, (expansion, outputs, blocks, stride) in enumerate(STAGES):
            first = 1 if small and index == 1 else stride
            for block in range(blocks):
                layers.append(InvertedResidual(width, outputs, 1 if block else first, expansion))
                width = outputs
        self.features = nn.Sequential(*layers, _normalized(width, 1280, kernel=1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes]."""
        logits: Tensor = self.classifier(self.flatten(self.pool(self.features(x))))
        return logits


def _normalized(inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())
