"""Quantize an ONNX file with NNCF. Runs in an environment of its own, which has NNCF and not EdgePrune.

    python nncf_file.py model.onnx samples.npz out/

`out/` gets `model.onnx`, quantized as ONNX, and `model.xml` with `model.bin`, quantized as OpenVINO's own format; what
fails is told on the last line of the error output, and the other is still made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import nncf
import numpy as np
import onnx
import openvino as ov


def main() -> int:
    """Make both; 0 where both came out."""
    source, samples, out = map(Path, sys.argv[1:4])
    stored = np.load(samples)
    names = list(stored)
    arrays = {name: stored[name] for name in names}
    count = len(arrays[names[0]])
    rows = [{name: array[index : index + 1] for name, array in arrays.items()} for index in range(count)]
    graph = onnx.load(source)
    # what its documentation tells: say so where the model is a transformer, and leave the rest as it is
    kind = nncf.ModelType.TRANSFORMER if any(node.op_type == "Softmax" for node in graph.graph.node) else None

    def as_onnx() -> None:
        onnx.save(nncf.quantize(graph, nncf.Dataset(rows), subset_size=count, model_type=kind), out / "model.onnx")

    def as_openvino() -> None:
        model = ov.Core().read_model(source)
        model.reshape({port.any_name: rows[0][port.any_name].shape for port in model.inputs})
        quantized = nncf.quantize(model, nncf.Dataset(rows), subset_size=count, model_type=kind)
        ov.save_model(quantized, out / "model.xml", compress_to_fp16=False)

    return max(_tried("ONNX", as_onnx), _tried("OpenVINO", as_openvino))


def _tried(what: str, make: Callable[[], None]) -> int:
    try:
        make()
    except Exception as error:  # whatever it is, the other file is still wanted
        print(f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
