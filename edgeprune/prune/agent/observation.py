"""What layers do in a training: their activations and gradients over the batches in front of a decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

FEATURES = (
    "position",
    "progress",
    "cost_left",
    "weights_left",
    "loss",
    "share_of_cost",
    "share_of_weights",
    "channels_left",
    "density",
    "neurons_can_go",
    "activation",
    "silent",
    "gradient",
    "contribution",
    "contribution_of_next",
)
"""Of an observation, in order; each about within 0 and 1."""
DECADES = 8.0
"""That logarithms are divided by."""
SEEN = 16
"""Samples of a batch whose activations are looked at; all of them would take a tenth of the time of a training."""


@dataclass
class LayerStatistics:
    """Sums over batches; numbers are read where they are asked for, not before."""

    batches: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, value: Tensor) -> None:
        """One batch's."""
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def mean(self, name: str) -> float:
        """0 where nothing was seen."""
        return float(self.sums[name]) / self.batches if name in self.sums and self.batches else 0.0


class Watch:
    """Follows the outputs and the weights' gradients of some layers, while it is told to."""

    def __init__(self, model: nn.Module, layers: Iterable[str]) -> None:
        self._model = model
        self.layers = {name: LayerStatistics() for name in layers}
        self.watching = False
        self._hooks = [model.get_submodule(name).register_forward_hook(self._hook(name)) for name in self.layers]

    def gradients(self) -> None:
        """Look at them as they stand."""
        for name, seen in self.layers.items():
            weights = [
                one for own, one in self._model.get_submodule(name).named_parameters(recurse=False) if "weight" in own
            ]
            found = [one.grad.detach().abs().mean() for one in weights if one.grad is not None]
            seen.batches += 1
            if found:
                seen.add("gradient", torch.stack(found).mean())
                seen.add("weight", torch.stack([one.detach().abs().mean() for one in weights]).mean())

    def close(self) -> None:
        """Leave the network as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def clear(self) -> None:
        """What was seen counts no more."""
        for seen in self.layers.values():
            seen.batches, seen.sums = 0, {}

    def state_dict(self) -> dict[str, Any]:
        """Sums so far."""
        return {name: (seen.batches, dict(seen.sums)) for name, seen in self.layers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on adding."""
        for name, (batches, sums) in state.items():
            self.layers[name] = LayerStatistics(batches, dict(sums))

    def _hook(self, name: str) -> Any:
        def look(_: nn.Module, __: Any, given: Any) -> None:
            output = given[0] if isinstance(given, tuple) else given
            if self.watching and isinstance(output, Tensor) and output.requires_grad:
                values = output.detach()[:SEEN].float()
                self.layers[name].add("activation", values.abs().mean())
                self.layers[name].add("silent", (values <= 0).count_nonzero() / values.numel())

        return look


def logarithm(value: float) -> float:
    """In [0, 1]: how many decades a value is above 1e-8, of 16."""
    return (torch.log10(torch.tensor(max(value, 1e-8))).item() + DECADES) / (2 * DECADES)
