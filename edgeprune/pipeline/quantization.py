"""What is decided about the quantization of one graph, and the graph in a runtime's spelling that comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.cache import Stage
from edgeprune.graph.load import read_onnx
from edgeprune.pipeline.artifact import MODEL, read_ranges
from edgeprune.pipeline.job import Job
from edgeprune.quantize.flavour import Flavour
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.plan_file import PLAN, read_plan
from edgeprune.quantize.qdq import emit
from edgeprune.quantize.spec import QuantPlan

UNIFORM = ("int8", "int4")
"""Precisions that all layers have alike."""


@dataclass(frozen=True)
class Quantization:
    """The stages that quantize a graph."""

    exported: Stage
    """The float graph."""
    ranges: Stage
    plan: Stage | None = None
    """What `mixed` is."""

    def inputs(self, precision: str) -> dict[str, Stage | None]:
        """Those that a variant depends on."""
        return {"ranges": self.ranges, "plan": self.plan if precision not in UNIFORM else None}

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

    def spelled(self, plan: QuantPlan, flavour: Flavour) -> ir.Model:
        """The graph with Q/DQ pairs, in a runtime's dialect."""
        return emit(self.graph(), plan, read_ranges(self.ranges), flavour)


def first_backend(job: Job) -> str:
    """The runtime that stands for all where one file must do: plans are verified and weights tuned in its dialect."""
    return next(name for name in job.target.backends if job.backends is None or name in job.backends)
