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
from edgeprune.backends.tensorrt.layers import as_nodes
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
