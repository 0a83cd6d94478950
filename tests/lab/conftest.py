"""A bundle of two variants that is made at once, and inventories around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from edgeprune.bundle import Bundle, LayerPlan, Task, Variant, seal
from edgeprune.interleaved.settings import Settings
from edgeprune.lab.inventory import Lab, read_lab
from edgeprune.shipped import find
from edgeprune.tensor import TensorSpec

QUICK = Settings(restarts=1, seconds=0.02, rounds=2, least=2, most=5, warm_min_s=0, warm_max_s=0.1)
GRAPH = '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,8] x) => (float[batch,4] y) { [fc] y = MatMul(x, w) }'


@pytest.fixture
def bundle_of(tmp_path: Path) -> Callable[..., Bundle]:
    """A sealed bundle; `off` is added to the weights of its second variant."""

    def made(name: str = "tiny", target: str = "cpu", off: float = 0.0, precision: str = "fp32") -> Bundle:
        root, random = tmp_path / "bundles" / name, np.random.default_rng(0)
        weight, x = random.normal(size=(8, 4)).astype(np.float32), random.normal(size=(4, 8)).astype(np.float32)
        variants = []
        for variant, added in (("ort-fp32", 0.0), (f"ort-{precision}-2", off)):
            path = root / variant / "model.onnx"
            path.parent.mkdir(parents=True)
            proto = onnx.parser.parse_model(GRAPH)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(weight + np.float32(added), "w"))
            onnx.save(proto, path)
            layers, files = (LayerPlan("fc", "MatMul", "w", "fp32"),), {"model": f"{variant}/model.onnx"}
            variants.append(Variant(variant, "ort", precision if added else "fp32", files, {}, layers))
        (root / "target.yaml").write_text(find("targets", target).read_text())
        np.savez(root / "samples.npz", x=x, y=x @ weight)
        core = {
            "model": name, "target": target, "untrained": True, "seed": 0, "command": "none",
            "inputs": (TensorSpec("x", "float32", ("batch", 8)),),
            "outputs": (TensorSpec("y", "float32", ("batch", 4)),),
            "task": Task("none", ()), "baseline": variants[0], "variants": tuple(variants[1:]),
            **{name: {} for name in ("splits", "budgets", "pruning", "assumptions", "versions", "recipe")},
        }  # fmt: skip
        return seal(root, core)

    return made


@pytest.fixture
def bundle(bundle_of: Callable[..., Bundle]) -> Bundle:
    return bundle_of()


@pytest.fixture
def lab_of(tmp_path: Path) -> Callable[..., Lab]:
    """An inventory from devices as dictionaries, each for the target `cpu` unless it says otherwise."""

    def made(*devices: dict[str, Any], **more: Any) -> Lab:
        path = tmp_path / "lab.yaml"
        path.write_text(yaml.safe_dump({"devices": [{"target": "cpu", **one} for one in devices], **more}))
        return read_lab(path)

    return made


def simulated(name: str, kind: str = "healthy", **more: Any) -> dict[str, Any]:
    return {"name": name, "transport": "simulated", "simulated": {"kind": kind}, **more}
