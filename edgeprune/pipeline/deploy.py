"""A few lines of Python and C++ in every bundle that run its files without EdgePrune, to begin with."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from numpy.typing import NDArray

from edgeprune.backends.tensorrt.build_file import read_build
from edgeprune.backends.tensorrt.trtexec import JETPACK, build_arguments
from edgeprune.bundle import Variant
from edgeprune.tensor import TensorSpec

DEPLOY = "deploy"
SNIPPETS = Path(__file__).parent / "snippets"
LANGUAGES = ("py", "cpp")
ORT_TYPES = {
    "float32": "FLOAT", "float64": "DOUBLE", "float16": "FLOAT16", "int8": "INT8", "int16": "INT16", "int32": "INT32",
    "int64": "INT64", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "bool": "BOOL",
}  # fmt: skip
"""As ONNXTensorElementDataType ends."""
OPENVINO_TYPES = {"float32": "f32", "float64": "f64", "float16": "f16", "bool": "boolean"}
OPENVINO_TYPES |= {f"{sign}int{bits}": f"{sign or 'i'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
"""As ov::element calls them."""


def write_snippets(
    variants: Sequence[Variant],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    samples: Mapping[str, NDArray[Any]],
    threads: int,
    folder: Path,
) -> None:
    """Write `deploy/run_<runtime>.py` and `.cpp` for each runtime of the variants that has some here.

    For engines that are built on their device it is `deploy/build.sh`: their `build.json` must lie in `folder`.
    In C++ a free size is that of the first sample, and outputs must be float32.
    """
    if built := [one for one in variants if "build" in one.files]:
        words = {"jetpack": str(JETPACK), "commands": "\n".join(_build_command(one, folder) for one in built)}
        _write(folder / DEPLOY / "build.sh", SNIPPETS / "build.sh.txt", words)
    for backend in dict.fromkeys(one.backend for one in variants):
        own = [one for one in variants if one.backend == backend]
        for language in LANGUAGES:
            template = SNIPPETS / f"run_{backend}.{language}.txt"
            if not template.is_file() or (language == "cpp" and any(one.dtype != "float32" for one in outputs)):
                continue
            words = _words(own, inputs, outputs, samples, threads)
            _write(folder / DEPLOY / f"run_{backend}.{language}", template, words)


def snippets() -> dict[str, str]:
    """Every template by its name: a bundle is another where one changes."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(SNIPPETS.iterdir())}


def _write(out: Path, template: Path, words: Mapping[str, str]) -> None:
    out.parent.mkdir(exist_ok=True)
    out.write_text(Template(template.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")


def _build_command(variant: Variant, folder: Path) -> str:
    """What builds one engine, seen from the root of the bundle; one that is unproven does not end the others."""
    build = read_build(folder / variant.files["build"])
    model, engine = Path(variant.files["model"]), Path("engines") / f"{variant.name}.engine"
    timing = engine.with_name("timing.cache")
    arguments = build_arguments(model, engine, build, build.for_batch(1), timing_cache=timing)
    words = " ".join(map(shlex.quote, arguments))  # names of tensors may be anything
    tried = f" || echo {shlex.quote(f'{variant.name} is not taken; it was unproven')} >&2" if build.unproven else ""
    return f'echo "{variant.name}: for TensorRT {build.since} up to below {build.below}"\n"$trtexec" {words}{tried}'


def _words(
    variants: Sequence[Variant],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    samples: Mapping[str, NDArray[Any]],
    threads: int,
) -> dict[str, str]:
    names = [json.dumps(spec.name) for spec in inputs]  # whatever they are, they stay text: nothing of them may run
    counts = [_count(spec) for spec in inputs]
    shapes = {spec.name: samples[spec.name][:count].shape for spec, count in zip(inputs, counts, strict=True)}
    told = [f"{json.dumps(spec.name)} {spec.dtype} {list(shapes[spec.name])}" for spec in inputs]
    example = variants[0]
    return {
        "variants": f"VARIANT is one of: {', '.join(one.name for one in variants)}.",
        "first": example.name,
        "hint": example.options.get("INFERENCE_PRECISION_HINT", ""),
        "files": " ".join(f"{number}.bin" for number in range(len(inputs))),
        "threads": str(threads),
        "feeds": ", ".join(f"{name}: samples[{name}][:{count}]" for name, count in zip(names, counts, strict=True)),
        "inputs": ", ".join(told),
        "outputs": ", ".join(json.dumps(spec.name) for spec in outputs),
        "table": "\n".join(f"    {_row(spec, shapes[spec.name], example.backend)}," for spec in inputs),
    }


def _count(spec: TensorSpec) -> int:
    """How many samples one inference takes."""
    return spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else 1


def _row(spec: TensorSpec, shape: tuple[int, ...], backend: str) -> str:
    kind = (
        f"ONNX_TENSOR_ELEMENT_DATA_TYPE_{ORT_TYPES[spec.dtype]}"
        if backend == "ort"
        else f"ov::element::{OPENVINO_TYPES[spec.dtype]}"
    )
    return f"{{{json.dumps(spec.name)}, {kind}, {{{', '.join(map(str, shape))}}}}}"
