"""Set the sizes of a graph's inputs that its author left free."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import common

from edgeprune.errors import ConfigError
from edgeprune.graph.specs import tensor_specs
from edgeprune.registry import unknown
from edgeprune.tensor import parse_spec, shown


def pinned(model: ir.Model, given: Sequence[str]) -> ir.Model:
    """The model with its inputs as `given` says, each written `name:dtype[sizes]`.

    Raises ConfigError where an input is of another dtype, has another number of dimensions, or fixes another size;
    UnknownNameError with the nearest name where it has no such input.
    """
    if not given:
        return model
    fixed = model.clone()
    inputs = {str(value.name): value for value in fixed.graph.inputs}
    specs = {spec.name: spec for spec in tensor_specs(fixed.graph.inputs)}
    for wanted in map(parse_spec, given):
        if wanted.name not in inputs:
            raise unknown("input", wanted.name, inputs)
        own = specs[wanted.name]
        sizes = list(zip(own.shape, wanted.shape, strict=False))
        clash = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sizes[1:])
        if own.dtype != wanted.dtype or len(own.shape) != len(wanted.shape) or clash:
            raise ConfigError(f"--input {shown(wanted)}: the model's input is {shown(own)}")
        inputs[wanted.name].shape = ir.Shape([b if isinstance(b, int) else a for a, b in sizes])
    given_values = set(fixed.graph.inputs) | set(fixed.graph.initializers.values())
    for node in fixed.graph:
        for output in node.outputs:
            if output not in given_values:
                output.shape = None
    return common.ShapeInferencePass()(fixed).model
