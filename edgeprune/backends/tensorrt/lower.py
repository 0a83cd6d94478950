"""For TensorRT the linted ONNX file travels, with its build as data: engines are built on the device they are for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgeprune.backends.backend import Lowered
from edgeprune.backends.onnx_file import checked_copy
from edgeprune.backends.tensorrt.lint import lint, oldest_for, tensorrt_version
from edgeprune.errors import ModelError
from edgeprune.graph.load import opset, read_onnx
from edgeprune.graph.specs import tensor_specs
from edgeprune.targets.target import Target
from edgeprune.tensor import TensorSpec

BUILD = "build.json"
BATCH = {"min": 1, "opt": 1, "max": 8}
"""Batch sizes of the optimization profile: tuned for one sample at a time, as it is measured."""
BELOW = "12.0"
"""Strong typing and Q/DQ are the one way that TensorRT 10 and 11 share; of later versions nothing is known."""


def lower(model_file: Path, target: Target, precision: str, out: Path) -> Lowered:
    """Check the file against TensorRT's rules, copy it and write `build.json`.

    The network is strongly typed: what Q/DQ say is what runs, and no builder flag chooses another precision.
    Raises ModelError naming the first node that breaks a rule, or an input with a free dimension besides its batch: the
    builder tunes for a range of sizes, and nothing says which.
    """
    if violations := lint(model_file, target):
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        where = f"node '{first.node}': " if first.node else ""
        raise ModelError(f"{model_file}: {where}{first.text} [{first.rule}]{more}")
    described = _build(read_onnx(model_file), target, model_file)
    build = out / BUILD
    build.write_text(json.dumps(described, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return Lowered({"model": checked_copy(model_file, out), "build": build})


def _build(model: ir.Model, target: Target, path: Path) -> dict[str, Any]:
    inputs = tensor_specs(model.graph.inputs)
    for spec in inputs:
        if free := [size for size in spec.shape[1:] if isinstance(size, str)]:
            raise ModelError(
                f"{path}: input '{spec.name}' leaves {', '.join(free)} free, and TensorRT builds for known sizes:"
                " export it with the size that is deployed"
            )
    return {
        "schema": 1,
        "assumes": {"tensorrt": tensorrt_version(target), **target.assumes},
        "tensorrt": {"from": oldest_for(opset(model)), "below": BELOW},
        "opset": opset(model),
        "network": {"strongly_typed": True},
        "profiles": [{spec.name: _profile(spec) for spec in inputs}],
        "builder": {"profiling_verbosity": "detailed"},  # the layer list is where a fallback shows
    }


def _profile(spec: TensorSpec) -> dict[str, list[int]]:
    return {bound: [size if isinstance(size, int) else batch for size in spec.shape] for bound, batch in BATCH.items()}
