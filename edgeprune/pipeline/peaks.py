"""The most that this machine reaches: operations a second by precision, and bytes a second by working set."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnx_ir as ir
from pydantic import TypeAdapter, ValidationError

from edgeprune.backends import LOAD
from edgeprune.errors import EdgePruneError, MissingError
from edgeprune.graph.save import write_onnx
from edgeprune.progress import SILENT, Progress
from edgeprune.results import Environment
from edgeprune.roofline import Peaks
from edgeprune.targets.target import Target
from edgeprune.transport.local import LocalTransport
from edgeprune.whole_file import write_whole
from edgeprune.worker.client import Client
from edgeprune.worker.probe import probe

SIDES = (256, 512, 1024)
"""Of the matrices that are multiplied: of small ones beginning takes a part, of large ones whatever interrupts."""
LAYERS = 4
"""Products one after another, so that what becomes of the input and the output takes little."""
HINT = "INFERENCE_PRECISION_HINT"
OPENED = {
    ("ort", "fp32"): {},
    ("ort", "int8"): {},
    ("openvino", "fp32"): {HINT: "f32"},
    ("openvino", "int8"): {HINT: "f32"},
    ("openvino", "bf16"): {HINT: "bf16"},
}
"""How a runtime is opened that it computes in a precision."""
SIZES = tuple(1 << bits for bits in (16, *range(18, 27), 28))
MEMORY_SHARE = 8
"""Of the memory at most one such part is worked through."""
SCALE = 0.002
"""Of the weights in 8 bits."""
HEAD = '<ir_version: 10, opset_import: ["" : 20]> product '


def peaks_file(root: Path, environment: Environment) -> Path:
    """Where they are kept below the cache's root: by all that lasts of the machine, its versions and threads."""
    return root / "peaks" / f"{environment.fingerprint()}.json"


def known_peaks(root: Path, environment: Environment) -> Peaks | None:
    """What was measured before; None where it was not, or is damaged: it is measured again then."""
    try:
        found: Peaks = TypeAdapter(Peaks).validate_json(peaks_file(root, environment).read_bytes())
    except (OSError, ValidationError):
        return None
    return found


def peaks(target: Target, root: Path, *, seconds: float = 0.15, progress: Progress = SILENT) -> Peaks:
    """Those of this machine with the target's threads, measured once. Raises MissingError where no runtime is here."""
    environment = TypeAdapter(Environment).validate_python({**probe(), "threads": target.threads})
    known = known_peaks(root, environment)
    if known is not None:
        return known
    progress.say("bench: measuring the peaks of this machine, once")
    found = measure_peaks(target, environment.memory_bytes, seconds=seconds)
    path = peaks_file(root, environment)
    write_whole(
        path, TypeAdapter(Peaks).dump_json(found, indent=1), "make room or set EDGEPRUNE_CACHE=DIR", make_folders=True
    )
    return found


def measure_peaks(target: Target, memory_bytes: int, *, seconds: float = 0.15) -> Peaks:
    """Products of two matrices in every runtime and precision, and arrays of many sizes that are read and copied."""
    transport, ops, runtimes, refused = LocalTransport(), dict[str, float](), dict[str, str](), list[EdgePruneError]()
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        for local in _files(Path(folder)):
            transport.push(local, local.name)
    for (backend, precision), options in OPENED.items():
        if backend not in target.backends or backend not in LOAD:
            continue
        try:
            reached = _operations(transport, target.threads, backend, precision, options, seconds)
        except EdgePruneError as error:  # a runtime that is not here: the others tell
            refused.append(error)
            continue
        if reached > ops.get(precision, 0.0):
            ops[precision], runtimes[precision] = reached, backend
    if "fp32" not in ops:
        raise (
            refused[0] if refused else MissingError(f"{target.name}: no runtime of it tells the peaks of this machine")
        )
    sizes = [size for size in SIZES if size <= memory_bytes // MEMORY_SHARE]
    with Client(transport, "peaks") as client:
        rates = client.ask("bandwidth", sizes=sizes, threads=target.threads)["bytes_per_s"]
    # what holds more is never faster than what holds less: where it seems so, something came between
    least = np.maximum.accumulate(np.array(rates)[::-1])[::-1]
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Peaks(ops, runtimes, tuple(zip(sizes, map(float, least), strict=True)), at)


def _files(folder: Path) -> Iterator[Path]:
    """Two networks of each size, and their input."""
    random = np.random.default_rng(0)
    for side in SIDES:
        weight = random.normal(0, side**-0.5, (side, side)).astype(np.float32)
        integers = np.round(weight / SCALE).astype(np.int8)
        for kind, text, array in (("fp32", _float(side), weight), ("int8", _quantized(side), integers)):
            model = ir.from_onnx_text(text)
            given = model.graph.inputs.pop()
            given.const_value = ir.tensor(array, name="w")
            model.graph.register_initializer(given)
            write_onnx(model, folder / f"{kind}-{side}.onnx")
            yield folder / f"{kind}-{side}.onnx"
        np.savez(folder / f"{side}.npz", x0=random.normal(size=(1, side, side)).astype(np.float32))
        yield folder / f"{side}.npz"


def _float(side: int) -> str:
    body = " ".join(f"x{i + 1} = MatMul(x{i}, w)" for i in range(LAYERS))
    return (
        f"{HEAD} (float[1,{side},{side}] x0, float[{side},{side}] w) => (float[1,{side},{side}] x{LAYERS}) {{ {body} }}"
    )


def _quantized(side: int) -> str:
    """The same with Q/DQ pairs: bytes between the products, activations unsigned and weights signed."""
    pair = "q{0} = QuantizeLinear(x{0}, s, z) d{0} = DequantizeLinear(q{0}, s, z)"
    body = " ".join(f"{pair.format(i)} x{i + 1} = MatMul(d{i}, c)" for i in range(LAYERS))
    last = f"{pair.format(LAYERS)} y = Identity(d{LAYERS})"
    return (
        f"{HEAD} (float[1,{side},{side}] x0, int8[{side},{side}] w) => (float[1,{side},{side}] y)"
        f" <float s = {{0.03}}, float t = {{{SCALE}}}, uint8 z = {{128}}, int8 o = {{0}}>"
        f" {{ c = DequantizeLinear(w, t, o) {body} {last} }}"
    )


def _operations(
    transport: LocalTransport, threads: int, backend: str, precision: str, options: dict[str, str], seconds: float
) -> float:
    """In a second, of the fastest of many products, of the best of all sizes."""
    reached = []
    with Client(transport, f"{backend}-{precision}") as client:
        for side in SIDES:
            files = {"model": f"{'int8' if precision == 'int8' else 'fp32'}-{side}.onnx"}
            client.ask("open", backend=backend, files=files, options=options, threads=threads)
            client.ask("warm", inputs=f"{side}.npz", min_s=0, max_s=seconds)
            times = client.ask("time", seconds=seconds, least=5, most=10_000)["samples_ms"]
            reached.append(2 * LAYERS * side**3 / (min(times) * 1e-3))
    return float(max(reached))
