"""LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 1998).

With what replaced its parts since: ReLU for tanh, max for trainable average pooling, full for partial connections.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgeprune.errors import ModelError


class LeNet5(nn.Module):
    """conv 6 - pool - conv 16 - pool - dense 120 - dense 84 - dense; 5x5 kernels.

    The paper's input is 32x32. A kernel is padded by 2 where its input is smaller than the paper's there (32, then
    14): 28x28 so arrives at the paper's 5x5 maps, and 8x8 does not vanish.
    """

    def __init__(self, *, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        if min(height, width) < 4:
            raise ModelError(f"lenet5 halves its input twice: {height}x{width} is too small, 4x4 is the least")
        pad1 = 2 if min(height, width) < 32 else 0
        height, width = (height + 2 * pad1 - 4) // 2, (width + 2 * pad1 - 4) // 2
        pad2 = 2 if min(height, width) < 14 else 0
        height, width = (height + 2 * pad2 - 4) // 2, (width + 2 * pad2 - 4) // 2
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=pad1)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=pad2)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.dense1 = nn.Linear(16 * height * width, 120)
        self.dense2 = nn.Linear(120, 84)
        self.dense3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes]."""
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.dense1(self.flatten(x)))
        logits: Tensor = self.dense3(self.relu(self.dense2(x)))
        return logits
