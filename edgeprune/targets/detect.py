"""Describe the machine we run on as a target, from what a probe found out; what it cannot tell is left open."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from edgeprune.errors import MissingError
from edgeprune.targets.target import BackendUse, Target

RUNTIMES = {"ort": "onnxruntime", "openvino": "openvino"}
"""What runs models here, and the package whose version counts."""
BF16 = {"avx512_bf16", "amx_bf16"}


def detect(probed: Mapping[str, Any], name: str | None = None) -> Target:
    """The target that `worker.probe` saw, named after its processor unless a name is given.

    Raises MissingError where no runtime is installed, or where nothing is known of the architecture.
    """
    arch, isa, versions = probed["arch"], tuple(probed["isa"]), probed["versions"]
    if arch not in ("x86_64", "aarch64"):
        raise MissingError(f"this machine is {arch}: a target is x86_64 or aarch64")
    backends = {
        backend: BackendUse(precisions=_precisions(backend, arch, isa), version=versions[package])
        for backend, package in RUNTIMES.items()
        if package in versions
    }
    if not backends:
        raise MissingError("no runtime is installed, so nothing could run here: pip install 'edgeprune[ort]'")
    alignment, why = _alignment(arch, isa)
    return Target(
        name=name or _slug(probed["machine"]),
        title=probed["machine"],
        arch=arch,
        isa=isa,
        local=True,
        backends=backends,
        memory_bytes=probed["memory_bytes"] or None,
        channel_alignment=alignment,
        meters=("rapl",) if arch == "x86_64" else (),
        notes=(why, *_notes(probed)),
        sources=(f"read from this machine: /proc, /sys and the installed packages; {probed['os']}",),
    )


def _precisions(backend: str, arch: str, isa: tuple[str, ...]) -> tuple[Any, ...]:
    if backend == "ort":
        return ("fp32", "int8")
    if arch == "aarch64":
        return ("fp32",)
    return ("fp32", "bf16", "int8") if BF16 & set(isa) else ("fp32", "int8")


def _alignment(arch: str, isa: tuple[str, ...]) -> tuple[int, str]:
    if arch == "aarch64":
        return 16, "Channels in multiples of 16: a vector of 128 bits holds 16 8-bit values."
    if "avx512f" in isa:
        return (
            16,
            "Channels in multiples of 16: a vector of AVX-512 holds 16 floats, the block of ONNX Runtime's layout.",
        )
    return 8, "Channels in multiples of 8: a vector of AVX2 holds 8 floats, the block of ONNX Runtime's layout."


def _notes(probed: Mapping[str, Any]) -> Iterator[str]:
    versions, isa = probed["versions"], set(probed["isa"])
    cores = probed["cores"]
    yield f"{cores} core{'s' * (cores != 1)} for a process; measured with one thread unless `threads` says more."
    if not isa:
        safe = ", so 8-bit weights keep to 7 bits: state them as `isa`" if probed["arch"] == "x86_64" else ""
        yield f"The instruction sets could not be read{safe}."
    if "openvino" in versions and probed["arch"] == "aarch64":
        yield "No INT8 with OpenVINO: its ARM plugin runs only a part of the layers in 8 bits."
    if "openvino" in versions and probed["arch"] == "x86_64" and not BF16 & isa:
        yield "No bf16: this processor has neither AVX512-BF16 nor AMX-BF16."
    if "tensorrt" in versions:
        yield f"TensorRT {versions['tensorrt']} is installed too: --target gpu is for that."
    if probed["emulated"]:
        yield "Instructions are emulated: no time measured here says anything of the processor."


def _slug(machine: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((?:r|tm)\)", "", machine.lower())).strip("-") or "this-machine"
