"""Small convolutional networks: two convolutions, then two dense layers or one."""

from __future__ import annotations

from torch import Tensor, nn

from edgeprune.errors import ModelError


class _Convolutions(nn.Module):
    """conv 32 - pool - conv 64 - pool, with a ReLU after each convolution."""

    def __init__(self, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = input_shape
        if min(height, width) < 4:
            raise ModelError(f"cnn and cnn-fc halve their input twice: {height}x{width} is too small, 4x4 is the least")
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.features = 64 * (height // 4) * (width // 4)

    def _features(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        flat: Tensor = self.flatten(x)
        return flat


class Cnn(_Convolutions):
    """conv 32 - pool - conv 64 - pool - dense 128 - dense, with a ReLU after each layer but the last."""

    def __init__(self, *, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__(input_shape)
        self.dense1 = nn.Linear(self.features, 128)
        self.dense2 = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes]."""
        logits: Tensor = self.dense2(self.relu(self.dense1(self._features(x))))
        return logits


class CnnFc(_Convolutions):
    """conv 32 - pool - conv 64 - pool - dense, with a ReLU after each convolution."""

    def __init__(self, *, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__(input_shape)
        self.dense = nn.Linear(self.features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes]."""
        logits: Tensor = self.dense(self._features(x))
        return logits
