"""NVIDIA's command line tool: argument lists that every release from 10.3 to 11.1 takes, and what it exports.

Flags are those of `samples/common/sampleOptions.cpp` in github.com/NVIDIA/TensorRT, compared by release. TensorRT 11
turned the defaults of a timing around (no transfers, waiting in a loop, CUDA graphs), so a timing says each of them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeprune.backends.tensorrt.build_file import Build, Shapes, Sizes
from edgeprune.errors import CorruptError, MissingError, ModelError

JETPACK = Path("/usr/src/tensorrt/bin/trtexec")
"""Where JetPack and the Debian packages put it, which is on nobody's path."""
VERSION = re.compile(r"\[TensorRT v(\d+)\]")
ERROR = re.compile(r"^\[[^\]]*\] \[E\] (?:\[TRT\] )?(.*)$", re.MULTILINE)


def find_trtexec(environ: Mapping[str, str] = os.environ, jetpack: Path = JETPACK) -> Path:
    """EDGEPRUNE_TRTEXEC, the path, or where JetPack puts it. Raises MissingError."""
    if named := environ.get("EDGEPRUNE_TRTEXEC"):
        if os.access(named, os.X_OK):
            return Path(named)
        raise MissingError(f"EDGEPRUNE_TRTEXEC={named} is no program")
    if found := shutil.which("trtexec", path=environ.get("PATH", "")):
        return Path(found)
    if os.access(jetpack, os.X_OK):
        return jetpack
    raise MissingError(f"trtexec is neither on the path nor {jetpack}: apt install tensorrt, or set EDGEPRUNE_TRTEXEC")


def build_arguments(
    model: Path, engine: Path, build: Build, shapes: Mapping[str, Shapes], *, timing_cache: Path
) -> list[str]:
    """Build, keep the times of kernels, and do not run."""
    arguments = [f"--onnx={model}", f"--saveEngine={engine}", "--stronglyTyped", "--skipInference"]
    if shapes:  # a network without free sizes takes none, and trtexec ends with an error where it is given one
        arguments += [
            f"--{bound}Shapes=" + _spec({name: getattr(one, bound) for name, one in shapes.items()})
            for bound in ("min", "opt", "max")
        ]
    arguments += ["--noTF32"] * (not build.builder["tf32"])
    arguments += ["--sparsity=enable"] * build.builder["sparse_weights"]
    verbosity = build.builder["profiling_verbosity"]
    return [*arguments, f"--profilingVerbosity={verbosity}", f"--timingCacheFile={timing_cache}"]


def timing_arguments(
    engine: Path, shapes: Mapping[str, Sizes], *, seconds: float, times: Path, profile: Path
) -> list[str]:
    """Time the kernels of an engine alone, alike in every release: that is less than an inference with its copies."""
    arguments = [
        f"--loadEngine={engine}",
        f"--duration={seconds:g}",
        f"--exportTimes={times}",
        f"--exportProfile={profile}",
    ]
    if shapes:
        arguments.append("--shapes=" + _spec(shapes))
    return [*arguments, "--noDataTransfers", "--useSpinWait", "--useCudaGraph", "--separateProfileRun"]


def run_trtexec(arguments: Sequence[str], what: Path, program: Path) -> str:
    """What it says. Raises ModelError with its last error where it fails, naming the file that it was about."""
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise MissingError(f"{program}: cannot be run ({error.strerror}): set EDGEPRUNE_TRTEXEC to another") from error
    said = done.stdout + done.stderr
    if done.returncode:
        errors = ERROR.findall(said)
        reason = " ".join(errors[-1].split()) if errors else f"exit code {done.returncode}"
        raise ModelError(f"{what}: trtexec refuses it: {reason}")
    return said


def version_of(said: str) -> str:
    """The TensorRT that a run names: `v100300` is 10.3.0. Raises CorruptError where it names none."""
    found = VERSION.search(said)
    if found is None:
        raise CorruptError("trtexec does not say which TensorRT it is")
    number = int(found[1])
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def read_times(path: Path) -> list[float]:
    """Milliseconds that the GPU computed, by inference, from `--exportTimes`; warm-up is left out there."""
    return [float(one["computeMs"]) for one in _exported(path)]


def read_profile(path: Path) -> dict[str, float]:
    """Mean microseconds of an inference by layer, from `--exportProfile`."""
    _, *layers = _exported(path)  # the first entry counts the inferences
    return {str(one["name"]): 1e3 * float(one["averageMs"]) for one in layers}


def _exported(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path}: not what trtexec exports ({type(error).__name__})") from error
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise CorruptError(f"{path}: not what trtexec exports")
    return found


def _spec(shapes: Mapping[str, Sizes]) -> str:
    """Sizes by input; names stand in quotes, for they may hold a colon or a comma."""
    return ",".join(f"'{name}':{'x'.join(map(str, sizes))}" for name, sizes in shapes.items())
