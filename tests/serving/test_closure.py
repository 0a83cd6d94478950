"""Serving needs the standard library and NumPy, and Python 3.10: what a board has beside its runtime."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "edgeprune" / "serving").glob("[a-z]*.py"))
HEAVY = {"pydantic", "yaml", "click", "rich", "onnx", "onnx_ir", "torch", "datasets", "matplotlib", "openvino"}
SERVE = f"""
import json, sys
import numpy as np
from edgeprune.serving import {", ".join(MODULES)}
from edgeprune.serving.session import AdaptiveRunner, Variant
from edgeprune.tensor import TensorSpec
import time

class Sleeper:
    inputs, input_names, output_names = (TensorSpec("x", "float32", (1,)),), ("x",), ("x",)
    def __init__(self, seconds):
        self.seconds = seconds
    def infer(self, feeds):
        time.sleep(self.seconds)
        return feeds
    def close(self):
        pass

x = {{"x": np.zeros(1, np.float32)}}
variants = [Variant(n, n, None, lambda s=s: Sleeper(s)) for n, s in (("fp32", 0.004), ("int8", 0.001))]
sampled = sampler.Sampler(period_s=0.01)
with AdaptiveRunner(variants, policy.most_accurate(), feeds=x, sampler=sampled) as runner:
    made = trace.generate("step", trace.Capacity(200.0, 500.0), phase_s=0.1, seed=0)
    run = replay.replay(made, runner, [x], sampler=sampled)
    assert len(list(series.series(run))) and exposition.exposition(runner, runner.sample)
print(json.dumps([len(run.rungs) == len(made.arrivals_s), sorted(sys.modules), sys.version_info[:2]]))
"""


def serve(python: str) -> tuple[set[str], list[int]]:
    """The packages that are loaded after serving, and the version of Python."""
    done = subprocess.run(
        [python, "-c", SERVE],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    served, modules, version = json.loads(done.stdout)
    assert served
    return {name.partition(".")[0] for name in modules}, version


def test_nothing_heavy_is_loaded():
    loaded, _ = serve(sys.executable)
    assert not loaded & HEAVY


def test_it_serves_on_python_310():
    python = os.environ.get("EDGEPRUNE_PYTHON310") or shutil.which("python3.10")
    if python is None or subprocess.run([python, "-c", "import numpy"], capture_output=True, check=False).returncode:
        pytest.skip("no Python 3.10 here: set EDGEPRUNE_PYTHON310 to one with numpy")
    assert serve(python)[1] == [3, 10]
