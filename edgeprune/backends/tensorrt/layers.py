"""The layers of an engine, in one form whoever tells of them: its inspector, or the log of a detailed build.

Up to TensorRT 10 a tensor says `Format/Datatype`, since 11 `Format` and `Datatype` apart (IEngineInspector, migration
to 11); `Metadata` names the nodes of the ONNX file that a layer was made from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from edgeprune.errors import DeviceError

KINDS = (
    ("bf16", r"bfloat16|bf16"),
    ("fp16", r"half|fp16|float16"),
    ("fp32", r"float|fp32"),
    ("int4", r"int4"),
    ("int8", r"int8"),
    ("int32", r"int32"),
    ("int64", r"int64"),
    ("bool", r"bool"),
)
"""How types are told, in an order in which none is found inside another: `Row major Int8 format`, `Float`, `FP16`."""
_NODES = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_PARTS = re.compile(r"\s\+\s|\|\|")  # how engines without metadata join the names of fused nodes
_WRAPPED = re.compile(r"^\w+\((.*)\)$")


def from_inspector(said: str) -> list[dict[str, Any]]:
    """Every layer in order: name, type, tactic, the types of inputs, outputs and weights, and its `layers` (of ONNX).

    `said` is the JSON of `get_engine_information`, or what trtexec exports. Raises DeviceError where it holds no
    layers, or the engine was not built with the verbosity that describes them.
    """
    try:
        layers = json.loads(said)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise DeviceError("TensorRT's inspector tells of no layers") from error
    if not all(isinstance(layer, Mapping) for layer in layers):
        raise DeviceError("TensorRT's inspector tells the names of layers only: profiling_verbosity must be detailed")
    return [as_node(layer) for layer in layers]


def kind(text: str) -> str:
    """The name of a type here for what TensorRT calls it.

    >>> kind("Thirty-two wide channel vectorized row major Int8 format")
    'int8'
    """
    return next((name for name, pattern in KINDS if re.search(pattern, text, re.IGNORECASE)), "unknown")


def as_node(layer: Mapping[str, Any]) -> dict[str, Any]:
    """One layer of those."""
    weights = layer.get("Weights")
    return {
        "name": str(layer.get("Name", "")),
        "type": str(layer.get("LayerType", "")),
        "tactic": str(layer.get("TacticName", "")),
        "inputs": list(_types(layer.get("Inputs"))),
        "outputs": list(_types(layer.get("Outputs"))),
        "weights": [kind(weights["Type"])] if isinstance(weights, Mapping) else list(_types(layer.get("Constants"))),
        "layers": _NODES.findall(str(layer.get("Metadata", ""))) or _joined(str(layer.get("Name", ""))),
    }


def _types(tensors: Any) -> Iterator[str]:
    for tensor in tensors if isinstance(tensors, list) else ():
        if isinstance(tensor, Mapping):
            found = tensor.get("Datatype") or tensor.get("DataType") or tensor.get("Format/Datatype") or ""
            yield kind(str(found))


def _joined(name: str) -> list[str]:
    return [_WRAPPED.sub(r"\1", part.strip()) for part in _PARTS.split(name)]
