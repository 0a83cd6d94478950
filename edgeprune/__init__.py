"""Edge deployment compiler and runtime benchmarker.

    bundle = edgeprune.compile("cnn", data="digits", target="cpu")
    with edgeprune.load(bundle) as runner:
        scores = runner.infer({"x": images})

Names are imported when they are first used, so that `import edgeprune` costs nothing on a device.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune.api import bench, compile, load, open, predict

__version__ = "0.1.0"
__all__ = ["__version__", "bench", "compile", "load", "open", "predict"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("edgeprune.api"), name)
    raise AttributeError(f"module 'edgeprune' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
