"""What a tensor at the border of a model looks like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.errors import ConfigError

IMAGE = "image"
TOKENS, MASK, SEGMENTS = "input_ids", "attention_mask", "token_type_ids"
TEXT = (TOKENS, MASK, SEGMENTS)
"""What data give to a model is called so; a mask is 0 where a text is padded."""


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


def stand_in(wanted: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """Which of a text's tensors the one input takes that is called like none of them: the tokens, else the last left.

    Empty where that is not clear: of two such inputs either could be the tokens.

    >>> stand_in(["ids", "attention_mask"], TEXT)
    {'ids': 'input_ids'}
    """
    other, free = [name for name in wanted if name not in given], [name for name in given if name not in wanted]
    if TOKENS not in given or len(other) != 1 or (TOKENS not in free and len(free) != 1):
        return {}
    return {other[0]: TOKENS if TOKENS in free else free[0]}


def shown(spec: TensorSpec) -> str:
    """A tensor in a message.

    >>> shown(TensorSpec("x", "float32", ("batch", 3)))
    'x float32[batch, 3]'
    """
    return f"{spec.name} {spec.dtype}[{', '.join(map(str, spec.shape))}]"
