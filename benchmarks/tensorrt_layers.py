"""What NVIDIA's compiler makes of every TensorRT variant of the zoo, on a machine without a GPU.

    python -m pip install -e '.[tensorrt-rtx]'          NVIDIA's licence, which is proprietary
    EDGEPRUNE_DATA=DIR python benchmarks/tensorrt_layers.py --out docs/tensorrt-layers.md

Weights are as they are drawn, calibrated on few samples. `backends/tensorrt/build.py` builds, as on a board, but with the
bindings of TensorRT-RTX, whose compiler needs no GPU: its layers show which kernels were chosen, and say nothing of speed.
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from compile_table import few_samples
from rich.console import Console

from edgeprune.backends.tensorrt.build import Log, build_engine
from edgeprune.backends.tensorrt.build_file import read_build
from edgeprune.backends.tensorrt.layers import as_node
from edgeprune.backends.tensorrt.profile import effective
from edgeprune.bundle import Bundle, Variant, open_bundle
from edgeprune.cache import StageCache
from edgeprune.errors import EdgePruneError, MissingError
from edgeprune.models.zoo import ZOO
from edgeprune.pipeline import assemble
from edgeprune.pipeline.compile import prepare, stages
from edgeprune.recipe import PrunePart, QuantizePart, Recipe
from edgeprune.results import Layer
from edgeprune.targets.load import load_target

BINDINGS = "tensorrt_rtx_bindings"
DATA = ("digits", "cifar10", "glue:sst2", "squad")
"""A model is compiled on the first of these that it takes."""
PRECISIONS = ("fp32", "fp16", "int8", "int4")
NEAREST = "SM86"
"""The GPU that is nearest to a Jetson Orin's (8.7) among those that the compiler can build for."""


@dataclass(frozen=True)
class Compiled:
    """One variant of one network, as the compiler took it."""

    variant: str
    layers: tuple[Layer, ...]
    nodes: Sequence[Mapping[str, Any]]
    """Of the engine."""
    file_bytes: int
    engine_bytes: int
    seconds: float
    """That the compiler took here: it times no kernels, as on a board it would."""


def compiler() -> Any:
    """The bindings. Raises MissingError where they are not installed."""
    try:
        return importlib.import_module(BINDINGS)
    except (ImportError, OSError) as error:
        raise MissingError(f"TensorRT-RTX is missing ({error}): pip install 'edgeprune[tensorrt-rtx]'") from error


def compiled(trt: Any, files: Mapping[str, Path], variant: Variant) -> Compiled:
    """Build a variant for the nearest GPU. Raises ModelError naming the node that NVIDIA's parser refuses."""

    def configure(config: Any) -> None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, NEAREST), 0)

    build, log = read_build(files["build"]), Log(trt, verbose=True)
    begin = perf_counter()
    built = build_engine(trt, log, files["model"], build, build.for_batch(1), configure=configure)
    seconds = perf_counter() - begin
    nodes = [as_node(layer) for layer in logged(log.lines)]
    layers = effective({"version": f"RTX {trt.__version__}", "nodes": nodes}, variant.layers)
    sizes = files["model"].stat().st_size, len(built.engine)
    return Compiled(variant.name, layers, nodes, *sizes, seconds)


LAYER = re.compile(
    r"^Name: (?P<Name>.*?), LayerType: (?P<LayerType>.*?), Inputs: \[(?P<Inputs>.*?)\],"
    r"(?: Constants: \[(?P<Constants>.*?)\],)? Outputs: \[(?P<Outputs>.*?)\],"
    r" TacticName: (?P<TacticName>.*?), StreamId: \d+, Metadata: (?P<Metadata>.*)$",
    re.MULTILINE,
)


def logged(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Layers as the log of a detailed build lists them, in the form of the inspector's JSON."""
    for found in LAYER.finditer("\n".join(lines)):
        told: dict[str, Any] = found.groupdict("")
        for part in ("Inputs", "Constants", "Outputs"):
            told[part] = [{"Datatype": kind} for kind in re.findall(r"Datatype: (\w+)", told[part])]
        yield told
