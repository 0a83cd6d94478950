"""A small convolutional network: two convolutions, two dense layers."""

from __future__ import annotations

from torch import Tensor, nn

from edgeprune.errors import ModelError


class Cnn(nn.Module):
    """conv 32 - pool - conv 64 - pool - dense 128 - dense, with a ReLU after each layer but the last."""

    def __init__(self, *, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        if min(height, width) < 4:
            raise ModelError(f"cnn halves its input twice: {height}x{width} is too small, 4x4 is the least")
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.dense1 = nn.Linear(64 * (height // 4) * (width // 4), 128)
        self.dense2 = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes]."""
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.dense1(self.flatten(x)))
        logits: Tensor = self.dense2(x)
        return logits
