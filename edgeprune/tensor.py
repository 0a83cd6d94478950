"""What a tensor at the border of a model looks like."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeprune.errors import ConfigError


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


_WRITTEN = re.compile(r"(?P<name>[^:\[\]]+):(?P<dtype>\w+)\[(?P<sizes>[^\[\]]*)\]")
_DTYPES = ("float32", "float16", "float64", "int64", "int32", "int8", "uint8", "bool")


def parse_spec(text: str) -> TensorSpec:
    """Read `name:dtype[1,3,224,224]`; a word is a free dimension. Raises ConfigError saying how it is written.

    >>> parse_spec("ids:int64[batch,128]")
    TensorSpec(name='ids', dtype='int64', shape=('batch', 128))
    """
    found = _WRITTEN.fullmatch(text.replace(" ", ""))
    sizes = [] if found is None or not found["sizes"] else found["sizes"].split(",")
    if (
        found is None
        or found["dtype"] not in _DTYPES
        or not all(re.fullmatch(r"[1-9]\d*|[A-Za-z_]\w*", one) for one in sizes)
    ):
        raise ConfigError(f"input {text!r}: write NAME:DTYPE[1,3,224,224], DTYPE one of {', '.join(_DTYPES)}")
    return TensorSpec(found["name"], found["dtype"], tuple(int(one) if one.isdigit() else one for one in sizes))


def shown(spec: TensorSpec) -> str:
    """A tensor in a message.

    >>> shown(TensorSpec("x", "float32", ("batch", 3)))
    'x float32[batch, 3]'
    """
    return f"{spec.name} {spec.dtype}[{', '.join(map(str, spec.shape))}]"
