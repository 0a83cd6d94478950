"""Made-up measurements with every kind of value that a report must show; nothing here was measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgeprune.bundle import Core, LayerPlan, Split, Task, Variant
from edgeprune.decisions import Predicted, TriedPlan
from edgeprune.metrics import Interval, wilson
from edgeprune.report.source import Source
from edgeprune.results import Accuracy, Energy, Environment, Layer, Measured, Measurement
from edgeprune.roofline import Limit
from edgeprune.tensor import TensorSpec

LAYERS = (("conv1", "Conv"), ("conv2", "Conv"), ("fc1", "Gemm"), ("fc2", "Gemm"))


def record(
    variant: str, *, right: int = 440, median_ms: float = 0.1, size: int = 120_000, **values: object
) -> Measurement:
    backend, _, precision = variant.partition("-")
    backend, precision = (backend, precision) if precision else ("ort", "fp32")
    random = np.random.default_rng(len(variant) + right)
    samples = tuple(tuple(median_ms * np.exp(random.normal(0, 0.08, 400))) for _ in range(3))
    lost = Interval((441 - right) / 450, (441 - right) / 450 - 0.007, (441 - right) / 450 + 0.0069)
    accuracy = tuple(
        Accuracy("top1", split, 450, wilson(right, 450), None if variant == "baseline" else lost, "measured")
        for split in ("select", "report")
    )
    fields = {
        "bundle": "5e" * 32,
        "model": "cnn",
        "target": "cpu",
        "variant": variant,
        "backend": backend,
        "precision": precision,
        "size_bytes": size,
        "accuracy": accuracy,
        "environment": ENVIRONMENT,
        "samples_ms": samples,
        "load_ms": (4.1, 4.3, 4.0),
        "first_inference_ms": (0.4, 0.5, 0.4),
        "speedup": None if variant == "baseline" else Interval(0.11 / median_ms, 0.108 / median_ms, 0.113 / median_ms),
        "peak_memory_bytes": 9_400_000,
        "energy": Energy(None, None, "no powercap zone, no hwmon sensor: a virtual machine rarely has one"),
        "layers": tuple(Layer(name, op, precision, precision, ms=median_ms / 5) for name, op in LAYERS),
        "measured_at": "2026-09-14T08:31:05Z",
    }
    return Measurement(**{**fields, **values})  # type: ignore[arg-type]


ENVIRONMENT = Environment(
    machine="A processor with a <long> & telling name",
    arch="x86_64",
    isa=("avx2", "avx512_vnni"),
    cores=2,
    memory_bytes=24_000_000_000,
    os="Linux 6.1",
    python="3.11.7",
    versions={"edgeprune": "0.1.0", "numpy": "2.4.6", "onnxruntime": "1.31.1", "openvino": "2026.4.1"},
)


@pytest.fixture
def measured() -> Measured:
    """A pruned network in five variants; one fell back, one could not be measured, one has energy."""
    fallen = (
        *(Layer(name, op, "int8", "int8") for name, op in LAYERS[:2]),
        Layer("fc1", "Gemm", "int8", "fp32", "no 8-bit kernel for this shape"),
        Layer("fc2", "Gemm", "int8", "fp32", "no 8-bit kernel for this shape"),
    )
    simulated = tuple(
        dataclasses.replace(one, source="simulated (ONNX Runtime, graph optimization off)")
        for one in record("tensorrt-int8").accuracy
    )
    return Measured(
        default="ort-int8",
        default_reason="the fastest measured within the budgets",
        baseline=record("baseline", right=441, median_ms=0.11, size=487_312),
        measurements=(
            record("ort-fp32", right=440, median_ms=0.062, size=131_211),
            record("ort-int8", right=439, median_ms=0.041, size=44_720, warnings=("load average 1.9 on 2 cores",)),
            record("openvino-fp32", right=440, median_ms=0.071, size=131_211, energy=Energy(0.0021, "RAPL", "")),
            record("openvino-int8", right=437, median_ms=0.058, size=44_801, layers=fallen),
            record(
                "tensorrt-int8", right=439, size=46_002, accuracy=simulated, unmeasured="no device", samples_ms=(),
                speedup=None, peak_memory_bytes=None, environment=None, layers=(),
                energy=Energy(None, None, "no device"),
            ),
        ),
    )  # fmt: skip


@pytest.fixture
def core() -> Core:
    """The bundle those measurements would belong to."""
    floats = tuple(LayerPlan(name, op, f"{name}.weight", "fp32", weights=5_000) for name, op in LAYERS)
    eights = tuple(dataclasses.replace(one, precision="int8", weight_bits=8.0) for one in floats)
    mixed = (*eights[:2], dataclasses.replace(eights[2], weight_bits=4.5), floats[3])
    by_precision = {"fp32": floats, "int8": eights}
    variants = [
        Variant(
            name,
            *name.split("-"),
            {"model": f"variants/{name}/model.onnx"},
            {},
            mixed if name == "tensorrt-int8" else by_precision[name.split("-")[1]],
        )
        for name in ("ort-fp32", "ort-int8", "openvino-fp32", "openvino-int8", "tensorrt-int8")
    ]
    return Core(
        model="cnn",
        target="cpu",
        inputs=(TensorSpec("x", "float32", ("batch", 1, 8, 8)),),
        outputs=(TensorSpec("y", "float32", ("batch", 10)),),
        task=Task("classification", ("top1",)),
        untrained=False,
        baseline=Variant("baseline", "ort", "fp32", {"model": "baseline/model.onnx"}, {}, floats),
        variants=tuple(variants),
        splits={
            "train": Split("digits:all[0:997]", 997, "ab" * 32),
            "calibrate": Split("digits:all[0:200]", 200, "cd" * 32),
            "select": Split("digits:all[997:1347]", 350, "ef" * 32),
            "report": Split("digits:all[1347:1797]", 450, "01" * 32),
        },
        budgets={"max_drop": 1.0, "max_latency_ms": None, "max_size_mb": None},
        pruning={
            "pruner": "magnitude", "keep": 0.5, "macs_dense": 663_000, "macs": 320_100,
            "layers": [
                {"name": "conv1", "before": 64, "after": 32, "reason": ""},
                {"name": "fc2", "before": 10, "after": 10, "reason": "it is the output"},
            ],
        },
        assumptions={},
        versions={"torch": "2.13.0", "onnx": "1.23.2"},
        seed=0,
        command="edgeprune compile --recipe recipe.yaml --target cpu",
        recipe={"model": "cnn", "data": {"name": "digits"}, "prune": {"pruner": "magnitude", "keep": 0.5}},
        sha256={},
    )  # fmt: skip


@pytest.fixture
def predicted() -> Predicted:
    """What every layer's precision was predicted to cost."""
    return Predicted(
        "curvature", {f"{name}.weight": {"int8": 1e-6 * i, "int4": 1e-4 * i} for i, (name, _) in enumerate(LAYERS)}
    )


@pytest.fixture
def source(measured, core, predicted) -> Source:
    """All of it as a report finds it, with the limits of a machine."""
    limit = Limit(0.01, 40_000, 12_000, "memory")
    baseline, *others = [
        dataclasses.replace(one, limit=limit if one.samples else None)
        for one in (measured.baseline, *measured.measurements)
    ]
    measured = dataclasses.replace(measured, baseline=baseline, measurements=tuple(others))
    tried = (
        TriedPlan(False, 2e-3, 2.31, 21_000, {"int4": 4}),
        TriedPlan(True, 1e-4, 0.42, 44_720, {"int4": 1, "int8": 2, "fp32": 1}),
        TriedPlan(False, 1e-6, 0.11, 131_000, {"fp32": 4}),
    )
    return Source(measured, core, Path("build/cnn/measured.json"), predicted, tried)
