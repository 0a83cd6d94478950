"""Other processors, run by QEMU, answer as this one does: integers bit for bit, what is quantized as it runs nearly."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.backends import LOAD
from edgeprune.graph.cleanup import clean
from edgeprune.graph.save import write_onnx
from edgeprune.lab.package import write_package
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.emission.flavour import FLAVOURS
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.plan import uniform_plan
from edgeprune.registry import resolve

pytestmark = pytest.mark.system

RNG = np.random.default_rng(0)
PICTURES = """(float[batch, 3, 8, 8] x) => (float[batch, 5] y) {
  [stem] a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
  [stem_relu] b = Relu(a)
  [branch] c = Conv<pads = [1, 1, 1, 1]>(b, w2, b2)
  [branch_relu] d = Relu(c)
  [pool] e = MaxPool<kernel_shape = [4, 4], strides = [4, 4]>(d)
  [flat] f = Flatten(e)
  [dense] y = Gemm<transB = 1>(f, w3, b3)
}"""
PICTURE_SHAPES = {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,), "w3": (5, 64), "b3": (5,)}
ROWS = """(float[batch, 128] x) => (float[batch, 32] y) {
  [first] a = MatMul(x, w1)
  [relu] b = Relu(a)
  [last] y = MatMul(b, w2)
}"""
ROW_SHAPES = {"w1": (128, 128), "w2": (128, 32)}
SEQUENCE = """(float[batch, 6, 8] x) => (float[batch, 6, 16] y) {
  [forth] z = Transpose<perm = [1, 0, 2]>(x)
  [lstm] s = LSTM<hidden_size = 16>(z, w1, w2)
  [one] t = Squeeze(s, axis)
  [back] y = Transpose<perm = [1, 0, 2]>(t)
}"""
SEQUENCE_SHAPES = {"w1": (1, 64, 8), "w2": (1, 64, 16)}
NEARLY = 1e-2
"""Of the largest answer."""


@dataclass(frozen=True)
class Case:
    """A file, and whether its answers are the same on every processor."""

    model: ir.Model
    x: np.ndarray
    exact: bool


def large(shape: tuple[int, ...]) -> np.ndarray:
    """Of which two beside each other, times inputs that are as large, exceed 16 bits as often as not."""
    return (RNG.choice((-1, 1), shape) * RNG.uniform(0.7, 1, shape)).astype(np.float32)


def parsed(text: str, shapes: dict[str, tuple[int, ...]]) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')
    arrays = {name: large(shape) for name, shape in shapes.items()}
    if "axis" in text:
        arrays["axis"] = np.array([1], np.int64)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    return clean(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("float")

    def case(text: str, shapes: dict[str, tuple[int, ...]], precision: str, flavour, exact: bool) -> Case:
        model = parsed(text, shapes)
        sizes = [size if isinstance(size, int) else 16 for size in model.graph.inputs[0].shape]
        x = np.abs(large(tuple(sizes)))
        write_onnx(model, folder / "m.onnx")
        ranges = calibrate(folder / "m.onnx", [{"x": x}])
        return Case(emit(model, uniform_plan(model, precision), ranges, flavour), x, exact)

    narrow = FLAVOURS["ort"].reduced()
    return {
        "qdq": case(PICTURES, PICTURE_SHAPES, "int8", narrow, True),
        "qdq-products": case(ROWS, ROW_SHAPES, "int8", narrow, True),
        "int4-cast": case(PICTURES, PICTURE_SHAPES, "int4", narrow, True),
        "dynamic": case(SEQUENCE, SEQUENCE_SHAPES, "int8", narrow, False),
        "int4-blocks": case(ROWS, ROW_SHAPES, "int4", FLAVOURS["tensorrt"], False),
        "full-range": case(ROWS, ROW_SHAPES, "int8", FLAVOURS["ort"], True),
    }


@pytest.fixture(scope="module")
def here(cases, tmp_path_factory) -> dict[str, np.ndarray]:
    folder, found = tmp_path_factory.mktemp("here"), {}
    for name, case in cases.items():
        write_onnx(case.model, folder / "m.onnx")
        with resolve(LOAD, "ort", "runtime")({"model": folder / "m.onnx"}, {}, threads=1, batch=len(case.x)) as runner:
            found[name] = runner.infer({"x": case.x})["y"]
    return found


def there(cases: dict[str, Case], folder: Path, words: Callable[[str], list[str]]) -> dict[str, np.ndarray]:
    """What a worker answers that is started with words; `folder` is where it finds its files."""
    folder.mkdir(parents=True)
    write_package(folder / "edgeprune.pyz")
    commands = [{"command": "probe"}]
    for name, case in cases.items():
        write_onnx(case.model, folder / f"{name}.onnx")
        np.savez(folder / f"{name}.npz", x=case.x)
        opened = {"files": {"model": f"{name}.onnx"}, "options": {}, "threads": 1, "batch": len(case.x)}
        commands += [{"command": "open", "backend": "ort", **opened}]
        commands += [{"command": "predict", "inputs": f"{name}.npz", "out": f"{name}-out.npz"}]
    done = subprocess.run(
        words("edgeprune.pyz"), input="".join(json.dumps(one) + "\n" for one in commands), capture_output=True,
        text=True, check=False, cwd=folder, timeout=900,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert not [answer for answer in answers if not answer["ok"]]
    assert answers[0]["environment"]["emulated"]
    found = {}
    for name in cases:
        with np.load(folder / f"{name}-out.npz") as file:
            found[name] = file["y"]
    return found


def compared(cases: dict[str, Case], here: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest differences, in parts of the largest answer."""
    worst = {name: float(np.abs(found[name] - here[name]).max() / np.abs(here[name]).max()) for name in cases}
    for name, one in worst.items():
        print(f"{name}: {one:.2g} apart")
    return worst


def test_a_processor_without_vnni_answers_as_this_one_does_where_weights_keep_to_seven_bits(cases, here, tmp_path):
    """And not where they have eight: its 16-bit sums of two products saturate, in the same file."""
    if platform.machine() != "x86_64":
        pytest.skip("this machine is no x86")
    qemu = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("no emulated processor: apt-get install qemu-user-static")
    found = there(cases, tmp_path / "haswell", lambda package: [qemu, "-cpu", "Haswell", sys.executable, package])
    worst = compared(cases, here, found)
    for name, case in cases.items():
        if name != "full-range":
            assert worst[name] <= (0 if case.exact else NEARLY), name
    assert worst["full-range"] > 10 * NEARLY


def test_an_arm_processor_answers_as_this_one_does(cases, here, emulated_root):
    folder = emulated_root / "emulation"
    shutil.rmtree(folder, ignore_errors=True)
    mounted = emulated_root / "proc"
    subprocess.run(["mount", "-t", "proc", "proc", str(mounted)], check=True)
    inside = f"cd /{folder.name} && exec python3 "
    try:
        found = there(cases, folder, lambda package: ["chroot", str(emulated_root), "sh", "-c", inside + package])
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
    worst = compared(cases, here, found)
    for name, case in cases.items():
        assert worst[name] <= (0 if case.exact else NEARLY), name
