"""Quantization plans as a file that people read, edit and give back.

```yaml
layers:
  "*": int8                                        # of all patterns that fit a weight the last decides
  layer3.*: int4
  conv1.weight: {precision: fp32, reason: sees the raw image}
  layer1.0.conv1.weight: {precision: int4, wide: [0, 7]}   # these output channels keep 8 bits
```

A weight's whole name stands for itself; else `*`, `?` and `[abc]` are patterns, and `[[]` is a bracket.
"""

from __future__ import annotations

from collections.abc import Container
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import onnx_ir as ir
import yaml
from pydantic import BaseModel, ConfigDict, Field

from edgeprune.errors import ConfigError
from edgeprune.graph.layers import PRODUCTS, WeightedLayer, weighted_layers
from edgeprune.quantize.spec import LayerQuant, QuantPlan
from edgeprune.recipe import read_yaml
from edgeprune.registry import unknown

HEAD = """\
# The precision of every layer, by the name of its weight: fp32, int8, or int4, where channels listed as `wide` keep 8
# bits. Patterns are allowed; of those that fit a weight the last decides. Give it back with --plan.
"""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: Literal["fp32", "int8", "int4"]
    wide: tuple[Annotated[int, Field(ge=0)], ...] = ()
    reason: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: dict[str, Literal["fp32", "int8", "int4"] | _Entry]


def read_plan(path: Path, model: ir.Model) -> QuantPlan:
    """The plan that a file holds for a model.

    Raises ConfigError where it cannot be read, a pattern fits no weight, a weight is fitted by none, or channels are
    named that the layer cannot have in 8 bits.
    """
    entries = read_yaml(path, _File).layers
    layers = {layer.weight: layer for layer in weighted_layers(model)}
    for pattern in entries:
        if not any(_fits(weight, pattern, layers) for weight in layers):
            raise ConfigError(f"{path}: {unknown('weight', pattern, list(layers))}")
    chosen = {}
    for weight, layer in layers.items():
        fitting = [entry for pattern, entry in entries.items() if _fits(weight, pattern, layers)]
        if not fitting:
            raise ConfigError(f"{path}: says nothing about {weight}: add it, or a pattern that fits it")
        entry = fitting[-1] if isinstance(fitting[-1], _Entry) else _Entry(precision=fitting[-1])
        _check_wide(path, layer, entry)
        reason = entry.reason or "as the plan says that was given"
        chosen[weight] = LayerQuant(entry.precision, reason, tuple(sorted(set(entry.wide))))
    return QuantPlan(chosen)


def check_plan_file(path: Path) -> None:
    """Refuse a file that cannot be a plan, before there is a model to hold it against. Raises ConfigError."""
    read_yaml(path, _File)


def write_plan(plan: QuantPlan, path: Path) -> None:
    """Write every layer's precision and reason."""
    layers = {}
    for weight, layer in plan.layers.items():
        entry = {"precision": layer.precision, "wide": list(layer.wide), "reason": layer.reason}
        layers[weight] = {key: value for key, value in entry.items() if value}
    text = yaml.safe_dump({"layers": layers}, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    path.write_text(HEAD + text, encoding="utf-8")


def _fits(weight: str, pattern: str, known: Container[str]) -> bool:
    """A weight's whole name stands for that weight alone, even where it reads as a pattern: `conv[0].weight`."""
    return weight == pattern if pattern in known else fnmatchcase(weight, pattern)


def _check_wide(path: Path, layer: WeightedLayer, entry: _Entry) -> None:
    if not entry.wide:
        return
    count = layer.weight_shape[layer.axis]
    if entry.precision != "int4" or layer.op not in PRODUCTS:
        raise ConfigError(f"{path}: {layer.weight}: only a Conv, Gemm or MatMul in int4 has channels that are `wide`")
    if max(entry.wide) >= count or len(set(entry.wide)) == count:
        raise ConfigError(
            f"{path}: {layer.weight}: `wide` names channels 0 to {count - 1}, and not all of them: else say int8"
        )
