"""What each target can do on this machine, what is missing for it, and the command that gets it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgeprune.backends import BUILD, LOWER
from edgeprune.backends.tensorrt.cudart import Cuda
from edgeprune.errors import EdgePruneError
from edgeprune.meters.meter import Meter, detect
from edgeprune.registry import unknown
from edgeprune.targets.load import load_target, target_names
from edgeprune.targets.target import Target

EXTRAS = {
    "compile": (
        *("torch", "torch-pruning", "onnx", "onnx-ir", "onnxscript", "onnxsim", "safetensors", "scipy", "datasets"),
        *("pyarrow", "pillow", "Jinja2", "matplotlib"),
    ),
    "agent": ("gymnasium", "stable-baselines3"),
    "ort": ("onnxruntime",),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings"),
    "loadgen": ("mlcommons-loadgen",),
    "lab": ("distributed",),
}
"""What each extra of pyproject.toml installs; a runtime's extra has the runtime's name."""
SHARED_FOLDERS = {
    "onnxruntime": (
        *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn"),
        *("onnxruntime-training", "onnxruntime-rocm", "onnxruntime-migraphx", "onnxruntime-cann", "onnxruntime-azure"),
    ),
    "openvino": ("openvino", "openvino-nightly"),
}
"""Distributions that unpack into one and the same folder, so that the last one installed wins."""
COMPILE_PYTHON = (3, 11)
RTX = "tensorrt-rtx"
DEVICE_ONLY = "runs on its device only"
ON_DEVICE = (
    "on a Jetson `apt install python3-libnvinfer`, beside another NVIDIA GPU `pip install 'edgeprune[tensorrt]'`; there"
    " it is built and run"
)
PROVES = (
    "TensorRT without its device: what is checked here are graph and calls, not speed; no latency of it is told unless"
    " a device has measured it"
)


@dataclass(frozen=True)
class Ability:
    """Something that can be done here, or why it cannot and what to do about it."""

    reason: str = ""
    """Empty where it can."""
    remedy: str = ""

    @property
    def able(self) -> bool:
        """Whether it can be done."""
        return not self.reason


@dataclass(frozen=True)
class TargetReport:
    """What can be done for one target."""

    name: str
    title: str
    compile: Ability
    run: dict[str, Ability]
    """By runtime."""
    measure: Ability
    energy: str
    """The sensor, or why there is none."""

    @property
    def abilities(self) -> tuple[Ability, ...]:
        """To compile, run and measure."""
        return (self.compile, *self.run.values(), self.measure)


@dataclass(frozen=True)
class Diagnosis:
    """The state of this installation."""

    python: str
    versions: dict[str, str | None]
    """By package; None where it is not installed."""
    targets: tuple[TargetReport, ...]
    warnings: tuple[str, ...]
    proof: str
    """What is known of TensorRT where its device is not."""
    data: str


def installed(package: str) -> str | None:
    """The version of a distribution in this environment; None where it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def no_gpu() -> str:
    """Why nothing runs on a GPU here; empty where it does."""
    try:
        Cuda()
    except EdgePruneError as error:
        return str(error)
    return ""


def examine(
    *,
    version: Callable[[str], str | None] = installed,
    environ: Mapping[str, str] = os.environ,
    python: tuple[int, ...] = sys.version_info[:3],
    meter: Callable[[Sequence[str]], Meter] = detect,
    gpu: Callable[[], str] = no_gpu,
) -> Diagnosis:
    """Look at everything, change nothing."""
    versions = {package: version(package) for packages in EXTRAS.values() for package in packages}
    lacks = _lacks(version)
    reports = tuple(_report(load_target(name), lacks, python, meter, gpu) for name in target_names())
    warnings, proof = tuple(overwritten(version)), f"{PROVES}; {_compiler(lacks)}"
    return Diagnosis(".".join(map(str, python)), versions, reports, warnings, proof, _data(environ))


def check(target: Target) -> TargetReport:
    """What can be done here for a target of anyone's. Raises UnknownNameError where it names a runtime there is not."""
    for backend in target.backends:
        if backend not in LOWER:
            raise unknown(f"backend of target {target.name}", backend, LOWER)
    return _report(target, _lacks(installed), sys.version_info[:3], detect, no_gpu)


def _lacks(version: Callable[[str], str | None]) -> dict[str, list[str]]:
    return {extra: [name for name in packages if version(name) is None] for extra, packages in EXTRAS.items()}


def _report(
    target: Target,
    lacks: Mapping[str, Sequence[str]],
    python: tuple[int, ...],
    meter: Callable[[Sequence[str]], Meter],
    gpu: Callable[[], str],
) -> TargetReport:
    run = {name: _run(name, lacks, gpu) for name in target.backends}
    ready = [name for name, ability in run.items() if ability.able]
    if not target.local:
        measure = Ability("another machine", "name one in lab.yaml; `edgeprune lab collect BUNDLE` measures there")
    elif not ready:
        measure = Ability("no runtime of it is installed", next(iter(run.values())).remedy)
    else:
        measure = Ability()
    energy = _energy(target, meter) if target.local else "read on the device"
    return TargetReport(target.name, target.title, _compile(target, lacks, python), run, measure, energy)


def _compile(target: Target, lacks: Mapping[str, Sequence[str]], python: tuple[int, ...]) -> Ability:
    if python[:2] < COMPILE_PYTHON:
        return Ability(f"Python {python[0]}.{python[1]}", "use Python 3.11 or newer")
    if missing := [*lacks["compile"], *lacks["ort"]]:
        return Ability(f"not installed: {', '.join(missing)}", "pip install 'edgeprune[compile]'")
    if unknown := [name for name in target.backends if name not in LOWER]:
        return Ability(f"nothing lowers to {', '.join(unknown)}")
    return Ability()


def _run(backend: str, lacks: Mapping[str, Sequence[str]], gpu: Callable[[], str]) -> Ability:
    if backend in BUILD and lacks.get(backend):
        return Ability(DEVICE_ONLY, ON_DEVICE)
    if lacks.get(backend):
        return Ability("not installed", f"pip install 'edgeprune[{backend}]'")
    if backend in BUILD and (reason := gpu()):
        return Ability(reason, ON_DEVICE)
    return Ability()


def _compiler(lacks: Mapping[str, Sequence[str]]) -> str:
    if lacks[RTX]:
        return (
            f"NVIDIA's compiler, which needs no GPU, is not here: pip install 'edgeprune[{RTX}]' (proprietary licence)"
        )
    return "NVIDIA's compiler, which needs no GPU, is here"


def _energy(target: Target, meter: Callable[[Sequence[str]], Meter]) -> str:
    try:
        return meter(target.meters).sensor
    except EdgePruneError as error:
        return f"unavailable: {error}"


def overwritten(version: Callable[[str], str | None]) -> Iterable[str]:
    """Packages that are installed over each other, by a function that gives the version of a package."""
    for folder, packages in SHARED_FOLDERS.items():
        here = [package for package in packages if version(package) is not None]
        if len(here) > 1:
            yield (
                f"{' and '.join(here)} overwrite each other in the folder {folder}:"
                f" pip uninstall {' '.join(here)}, then install the one that is wanted"
            )


def _data(environ: Mapping[str, str]) -> str:
    place = environ.get("EDGEPRUNE_DATA")
    if not place:
        return "EDGEPRUNE_DATA is not set: digits is built in, other data sets come from the hub"
    if not Path(place).is_dir():
        return f"EDGEPRUNE_DATA={place} is no folder"
    return f"EDGEPRUNE_DATA={place}: {', '.join(sorted(path.name for path in Path(place).iterdir() if path.is_dir()))}"
