"""Train with the rounding in place that the emitted Q/DQ pairs will do, so that weights learn to live on their grid.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018; the
gradient passes through the rounding (Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons",
2013). A scale for each output channel commutes with batch normalization, which multiplies each channel by a number:
what is rounded here is still on a grid when the normalization has been folded into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgeprune.errors import ModelError
from edgeprune.graph.layers import weighted_layers
from edgeprune.quantize.affine import SMALLEST_SCALE
from edgeprune.quantize.emission.blocks import block_size
from edgeprune.quantize.emission.flavour import Flavour, in_blocks
from edgeprune.quantize.emission.placement import place
from edgeprune.quantize.spec import LIMITS, LayerQuant, QParams, QuantPlan, Range

ROUNDED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Modules whose first argument is rounded, too."""


class OnGrid(nn.Module):
    """w = s round(w / s) with s = max|w| / limit for each output channel, the first dimension of a torch weight."""

    def __init__(self, quant: LayerQuant, channels: int, widest: int, block: int | None = None) -> None:
        """`widest` is the limit of 8 bits; `block` splits a channel's inputs into so many for each scale."""
        super().__init__()
        limit = torch.full((channels,), float(LIMITS["int4"] if quant.precision == "int4" else widest))
        limit[list(quant.wide)] = float(widest)
        self.register_buffer("limit", limit, persistent=False)
        self.block = block

    def forward(self, w: Tensor) -> Tensor:
        """The rounded weight; its gradient is that of `w`."""
        rows = w.detach().reshape(len(w), -1, self.block or w[0].numel())  # [C, blocks, inputs of each]
        s = (rows.abs().amax(dim=-1, keepdim=True) / self.get_buffer("limit").view(-1, 1, 1)).clamp_min(SMALLEST_SCALE)
        return w + (((rows / s).round() * s).view_as(w) - w).detach()


def simulate(
    model: nn.Module, graph: ir.Model, plan: QuantPlan, ranges: Mapping[str, Range], flavour: Flavour
) -> Callable[[], None]:
    """Round weights and layers' inputs as `plan` says; call what is returned when training is over.

    `graph` was exported from `model`, `plan` is fitted to the flavour, and `ranges` are those that will be emitted.
    Afterwards the weights are on their grids: the largest of a channel, or block, is at the end of it, so that the
    scale that is found for it is the same. Recurrent layers stay as they are, and so do the inputs of weights in
    blocks. Raises ModelError where a weight of the graph is none of the model's.
    """
    modules = {f"{name}.weight" if name else "weight": module for name, module in model.named_modules()}
    layers = [one for one in weighted_layers(graph) if plan.layers[one.weight].precision != "fp32"]
    blocks = in_blocks(plan, graph, flavour)
    shared = place(graph, {one.weight for one in layers}, add_absorbs=False).shared
    hooks, rounded = [], []
    for layer in {one.weight: one for one in layers if one.recurrence is None}.values():
        module = modules.get(layer.weight)
        if module is None or not isinstance(module.weight, nn.Parameter):
            raise ModelError(f"weight '{layer.weight}' of the graph is no weight of {type(model).__name__}")
        block = block_size(layer) if layer.weight in blocks else None
        grid = OnGrid(plan.layers[layer.weight], len(module.weight), flavour.weight_limit, block)
        parametrize.register_parametrization(module, "weight", grid)
        rounded.append(module)
        span = ranges.get(shared.get(layer.input, layer.input))
        if block is None and span is not None and isinstance(module, ROUNDED):
            hooks.append(module.register_forward_pre_hook(partial(_round_input, flavour.activation(span))))

    def finish() -> None:
        for hook in hooks:
            hook.remove()
        for module in rounded:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)

    return finish


def _round_input(q: QParams, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    low, high = (0, 255) if q.zero_point.dtype == "uint8" else (-128, 127)
    x = torch.fake_quantize_per_tensor_affine(args[0], float(q.scale), int(q.zero_point), low, high)
    return (x, *args[1:])
