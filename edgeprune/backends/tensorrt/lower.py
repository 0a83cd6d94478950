"""For TensorRT the linted ONNX file travels, with its build as data: engines are built on the device they are for.

Weights in 4 bits need opset 21, which TensorRT 10.3 is not documented to parse, though it has INT4: such a file travels
to it as unproven, for its device to try. Whatever else an older TensorRT does not parse is refused here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgeprune.backends.backend import Lowered
from edgeprune.backends.onnx_file import checked_copy
from edgeprune.backends.tensorrt.build_file import BUILD, SCHEMA
from edgeprune.backends.tensorrt.half import Half
from edgeprune.backends.tensorrt.lint import OPSET_RULE, lint, newest_opset, oldest_for
from edgeprune.backends.tensorrt.sparse import sparse_layers
from edgeprune.errors import ModelError
from edgeprune.graph.load import opset, read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.graph.specs import tensor_specs
from edgeprune.targets.target import TENSORRT_BELOW, Target
from edgeprune.tensor import TensorSpec

BATCH = {"min": 1, "opt": 1, "max": 8}
"""Batch sizes of the optimization profile: tuned for one sample at a time, as it is measured."""


def lower(model_file: Path, target: Target, precision: str, out: Path) -> Lowered:
    """Check the file against TensorRT's rules, copy it and write `build.json`.

    The network is strongly typed: what Q/DQ say is what runs, and no builder flag chooses another precision.
    For `fp16` a float file is cast to that inside. Raises ModelError naming the first node that breaks a rule, or an
    input with a free dimension besides its batch: the builder tunes for a range of sizes, and nothing says which.
    """
    model = read_onnx(model_file)
    unproven = _unproven(model, target)
    violations = [one for one in lint(model_file, target) if one.rule != OPSET_RULE or not unproven]
    if violations:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        where = f"node '{first.node}': " if first.node else ""
        raise ModelError(f"{model_file}: {where}{first.text} [{first.rule}]{more}")
    described = _build(model, target, model_file, unproven)
    build = out / BUILD
    build.write_text(json.dumps(described, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    copy = checked_copy(model_file, out)
    if precision == "fp16":
        try:
            write_onnx(Half()(model).model, copy)
        except ModelError as error:
            raise ModelError(f"{model_file}: {error}") from error
    return Lowered({"model": copy, "build": build}, unproven=unproven)


def _unproven(model: ir.Model, target: Target) -> str:
    """Why it must be tried whether the target's TensorRT takes a file with 4-bit weights; empty where that is known."""
    version = target.tensorrt
    fours = any(value.dtype == ir.DataType.INT4 for value in model.graph.initializers.values())
    if not fours or newest_opset(version) == 0 or opset(model) <= newest_opset(version):
        return ""
    return f"INT4 weights need opset {opset(model)}, and TensorRT {version} is documented up to {newest_opset(version)}"


def _build(model: ir.Model, target: Target, path: Path, unproven: str) -> dict[str, Any]:
    inputs, sparse = tensor_specs(model.graph.inputs), sparse_layers(model)
    for spec in inputs:
        if free := [size for size in spec.shape[1:] if isinstance(size, str)]:
            raise ModelError(
                f"{path}: input '{spec.name}' leaves {', '.join(free)} free, and TensorRT builds for known sizes:"
                " export it with the size that is deployed"
            )
    return {
        "schema": SCHEMA,
        "assumes": {"tensorrt": target.tensorrt, **target.assumes},
        "tensorrt": {"from": target.tensorrt if unproven else oldest_for(opset(model)), "below": TENSORRT_BELOW},
        "unproven": unproven,
        "opset": opset(model),
        "network": {"strongly_typed": True},
        "sparse_layers": list(sparse),
        "profiles": [{spec.name: _profile(spec) for spec in inputs}],
        # the layer list is where a fallback shows; and unless it is told not to, TensorRT computes float32 in TF32
        "builder": {"profiling_verbosity": "detailed", "tf32": False, "sparse_weights": bool(sparse)},
    }


def _profile(spec: TensorSpec) -> dict[str, list[int]]:
    return {bound: [size if isinstance(size, int) else batch for size in spec.shape] for bound, batch in BATCH.items()}
