from __future__ import annotations

import onnx
import pytest
from onnx import numpy_helper

from edgeprune.bundle import open_bundle
from edgeprune.errors import ModelError
from edgeprune.pipeline import artifact, lowered
from edgeprune.recipe import PrunePart


def test_a_file_that_a_runtime_computes_otherwise_is_refused_with_the_first_layer(bundles, job, tmp_path):
    """ONNX Runtime takes input x weight for the steps of a Gemm's bias; this file says others, and means the same."""
    bundle = open_bundle(bundles["cpu"])
    model = onnx.load(bundle.files(bundle.variant("ort-int8"))["model"])
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    factors = {f"{gemm.name}/bias": 64.0, f"{gemm.name}/bias/scale": 1 / 64}
    for tensor in model.graph.initializer:
        if tensor.name in factors:
            number = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((number * factors[tensor.name]).astype(number.dtype), tensor.name))
    file = tmp_path / "given.onnx"
    onnx.save(model, file)
    started = job(model=str(file), prune=PrunePart(pruner="none"))
    with pytest.raises(ModelError, match=rf"than its Q/DQ pairs say, first in layer '{gemm.name}': 'output' has"):
        lowered.lower_given(started, artifact.given(started, file), "ort")
