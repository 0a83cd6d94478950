"""What is decided about the quantization of one graph, and the graph in a runtime's spelling that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.bundle import PLAN
from edgeprune.cache import Stage
from edgeprune.graph.load import read_onnx
from edgeprune.pipeline.artifact import MODEL, read_ranges
from edgeprune.pipeline.corrections import read_means, read_rounded
from edgeprune.pipeline.job import Job
from edgeprune.quantize.corrections.bias_correction import correct_biases
from edgeprune.quantize.emission.flavour import Flavour
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.emission.stored import stored_weights
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.plan_file import read_plan
from edgeprune.quantize.spec import QuantPlan, Rounded

UNIFORM = ("int8", "int4")
"""Precisions that all layers have alike."""


@dataclass(frozen=True)
class Quantization:
    """The stages that quantize a graph."""

    exported: Stage
    """The float graph."""
    ranges: Stage
    means: Stage | None = None
    """What biases are corrected by; None where they are not."""
    plan: Stage | None = None
    """What `mixed` is."""
    rounded: Mapping[str, Stage] = field(default_factory=dict)
    """The 4-bit weights of `mixed` and `int4`, where they are rounded on purpose."""

    def inputs(self, precision: str) -> dict[str, Stage | None]:
        """Those that a variant depends on."""
        plan = None if precision in UNIFORM else self.plan
        return {"ranges": self.ranges, "means": self.means, "plan": plan, "rounded": self.rounded.get(precision)}

    def graph(self) -> ir.Model:
        """The float graph."""
        return read_onnx(self.exported.folder / MODEL)

    def chosen(self, precision: str) -> QuantPlan:
        """Every layer's precision in a variant, before a runtime makes something of it."""
        graph = self.graph()
        if precision == "mixed":
            assert self.plan is not None
            return read_plan(self.plan.folder / PLAN, graph)
        return uniform_plan(graph, "int4" if precision == "int4" else "int8")

    def spelled(self, plan: QuantPlan, flavour: Flavour, precision: str) -> ir.Model:
        """The graph with Q/DQ pairs, in a runtime's dialect, with the weights that were rounded for a precision."""
        graph, stage = self.graph(), self.rounded.get(precision)
        rounded = read_rounded(stage, flavour) if stage is not None else {}
        if self.means is not None:
            graph = correct_biases(graph, _nearest(graph, plan, flavour, rounded), read_means(self.means))
        return emit(graph, plan, read_ranges(self.ranges), flavour, rounded)


def _nearest(
    graph: ir.Model, plan: QuantPlan, flavour: Flavour, rounded: Mapping[str, Rounded]
) -> dict[str, NDArray[np.float32]]:
    """Every weight of a product that is stored rounded to the nearest, as the real numbers that are stored.

    Rounding for what a layer gives makes up for its mean already: corrected as well, ResNet-20 loses more.
    """
    stored = stored_weights(graph, plan, flavour)
    return {weight: numbers for weight, numbers in stored.items() if weight not in rounded}


def first_backend(job: Job) -> str:
    """The runtime that stands for all where one file must do: plans are verified and weights tuned in its dialect."""
    return job.runtimes[0]
