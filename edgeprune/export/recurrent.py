"""Name the recurrent layers of a graph after the modules that they come from.

ONNX wants the gates in another order and both directions in one tensor, so exporters make new tensors under numbers.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import nn

GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where ONNX's gates lie among PyTorch's: i o f c among i f g o; z r h among r z n."""
PARTS = ("weight_ih", "weight_hh", "bias")
"""ONNX's W [directions, gates * hidden, inputs], R and B, where B holds both biases one after the other."""


def name_recurrent(graph: ir.Model, model: nn.Module) -> None:
    """Call the weights of an LSTM, GRU or RNN `<module>.weight_ih_l0`, `.weight_hh_l0` and `.bias_l0`; the node
    `<module>`, and `<module>.l1` and so on of those above the first.
    """
    layers = {_digest(weights[0]): (name, weights) for name, weights in _layers(model).items()}
    taken = {node.name for node in graph.graph}
    for node in graph.graph:
        if node.op_type not in GATES or node.inputs[1] is None or node.inputs[1].const_value is None:
            continue
        found = layers.get(_digest(node.inputs[1].const_value.numpy()))
        if found is None:
            continue
        (module, level), weights = found
        for part, value, expected in zip(PARTS, node.inputs[1:4], weights, strict=False):
            name = f"{module}.{part}_l{level}"
            if value is None or value.name not in graph.graph.initializers or name in graph.graph.initializers:
                continue
            if value.const_value is not None and _digest(value.const_value.numpy()) == _digest(expected):
                value.name = name
        name = module if level == 0 else f"{module}.l{level}"
        if name not in taken:
            taken.add(name)
            node.name = name


def _layers(model: nn.Module) -> dict[tuple[str, int], tuple[NDArray[Any], ...]]:
    """W, R and B as ONNX wants them, by module and level."""
    found: dict[tuple[str, int], tuple[NDArray[Any], ...]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase):
            gates = GATES[module.mode.partition("_")[0]]
            for level in range(module.num_layers):
                found[name, level] = tuple(_stacked(module, part, level, gates) for part in PARTS)
    return found


def _stacked(module: nn.RNNBase, part: str, level: int, gates: tuple[int, ...]) -> NDArray[Any]:
    """Both directions of one of PARTS, gates reordered."""
    directions = [f"_l{level}", f"_l{level}_reverse"][: 2 if module.bidirectional else 1]
    names = ("bias_ih", "bias_hh") if part == "bias" else (part,)
    rows = []
    for direction in directions:
        tensors = [getattr(module, name + direction, None) for name in names]
        chunks = [np.split(one.detach().cpu().numpy(), len(gates)) for one in tensors if one is not None]
        rows.append(np.concatenate([chunk[gate] for chunk in chunks for gate in gates] or [np.empty(0)]))
    return np.stack(rows)


def _digest(array: NDArray[Any]) -> tuple[tuple[int, ...], bytes]:
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()
