"""What turns a dataclass into JSON and back, built once for each: building takes longer than reading a file."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Pydantic's for a type."""
    return TypeAdapter(kind)
