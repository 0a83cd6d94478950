"""What a tensor at the border of a model looks like."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorSpec:
    """Name, NumPy dtype name and shape of a model's input or output; a str is a free dimension (`"batch"`)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def fixed(self, **sizes: int) -> tuple[int, ...]:
        """The shape with its free dimensions set, 1 where `sizes` names none.

        >>> TensorSpec("x", "float32", ("batch", 3, 32, 32)).fixed(batch=8)
        (8, 3, 32, 32)
        """
        return tuple(sizes.get(size, 1) if isinstance(size, str) else size for size in self.shape)
