"""TensorRT on the GPU that is here: the engine is built once, kept, and opened."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.backends.backend import Compilation, Feeds, batched_spec, check_feeds, midmean
from edgeprune.backends.tensorrt import trtexec
from edgeprune.backends.tensorrt.build import Log, build_engine
from edgeprune.backends.tensorrt.build_file import Build, Shapes, read_build
from edgeprune.backends.tensorrt.cudart import Buffer, Cuda
from edgeprune.backends.tensorrt.engine_cache import EngineCache, Identity, check_engine
from edgeprune.backends.tensorrt.layers import from_inspector
from edgeprune.errors import ConfigError, CorruptError, DeviceError, MissingError, ModelError
from edgeprune.file_hash import sha256_of
from edgeprune.targets.machine import architecture, power_mode
from edgeprune.tensor import TensorSpec
from edgeprune.whole_file import whole

try:
    import tensorrt as trt
except (ImportError, OSError) as error:  # a library that it wants may be missing, too
    raise MissingError(
        f"TensorRT is missing ({' '.join(str(error).split())}): on a Jetson JetPack brings it (apt install"
        " python3-libnvinfer, and a virtual environment with --system-site-packages), beside another NVIDIA card"
        " pip install 'edgeprune[tensorrt]'"
    ) from error

BUILDER = "EDGEPRUNE_TENSORRT_BUILDER"
BUILDERS = ("python", "trtexec")
LEAST_RUNS, MOST_RUNS = 20, 400
"""Of a profile."""


class TensorRtRunner:
    """One engine in one stream, with buffers for inputs and outputs of one batch size."""

    compilation: Compilation | None = None  # `build` made it

    def __init__(self, engine: Path, batch: int, cuda: Cuda) -> None:
        self._file, self._batch, self._cuda = engine, batch, cuda
        free = cuda.free_bytes()
        self._buffers: dict[str, Buffer] = {}
        self._stream = 0
        self._log = Log(trt)
        self._runtime: Any = trt.Runtime(self._log.logger)
        self._engine: Any = self._runtime.deserialize_cuda_engine(engine.read_bytes())
        if self._engine is None:
            raise ModelError(f"{engine}: TensorRT {trt.__version__} refuses it: {self._log.reason}")
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise DeviceError(f"{engine}: TensorRT cannot run it: {self._log.reason}")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self.input_names = tuple(name for name in names if self._mode(name) == trt.TensorIOMode.INPUT)
        self.output_names = tuple(name for name in names if self._mode(name) == trt.TensorIOMode.OUTPUT)
        self.inputs = tuple(self._spec(name, batch) for name in self.input_names)
        try:
            self._stream = cuda.stream()
            self._allocate(engine)
            self.device_bytes: int | None = max(0, free - cuda.free_bytes())
        except BaseException:
            self.close()
            raise

    def infer(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Run once, with the copies there and back. Raises DataError where a name, dtype or shape does not fit."""
        check_feeds(self.inputs, feeds)
        for name in self.input_names:
            buffer = self._buffers[name]
            np.copyto(buffer.array, feeds[name])
            buffer.to_device(self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise DeviceError(f"TensorRT cannot run the engine: {self._log.reason}")
        for name in self.output_names:
            self._buffers[name].to_host(self._stream)
        self._cuda.call("cudaStreamSynchronize", self._stream)
        return {name: self._buffers[name].array.copy() for name in self.output_names}

    def evidence(self) -> dict[str, Any]:
        """Every layer of the engine, in order, as its inspector describes it."""
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        said = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        gpu = self._cuda.gpu
        return {
            "runtime": "tensorrt",
            "version": trt.__version__,
            "compute_capability": gpu.compute_capability,
            "nodes": from_inspector(said),
        }

    def profile(self, batches: Sequence[Feeds], seconds: float) -> dict[str, Any]:
        """The evidence with the time of every layer on the GPU, in a second runner that times them; see `Runner`."""
        with TensorRtRunner(self._file, self._batch, self._cuda) as timing:
            us = timing._timed(batches, seconds)
        found = self.evidence()
        return {**found, "nodes": [{**node, "us": us[node["name"]]} for node in found["nodes"] if node["name"] in us]}

    def _timed(self, batches: Sequence[Feeds], seconds: float) -> dict[str, float]:
        """Microseconds of one inference by layer; a profiler cannot be taken off again."""
        durations: dict[str, list[float]] = {}

        class Profiler(trt.IProfiler):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)

            def report_layer_time(self, name: str, ms: float) -> None:
                durations.setdefault(name, []).append(1e3 * ms)

        profiler = Profiler()  # the context does not keep it
        self._context.profiler = profiler
        stop = perf_counter() + seconds
        for done, feeds in enumerate(itertools.cycle(batches)):
            if done >= MOST_RUNS or (done >= LEAST_RUNS and perf_counter() >= stop):
                break
            self.infer(feeds)
        return {name: midmean(us) for name, us in durations.items()}

    def close(self) -> None:
        """Give the engine, its stream and its buffers back."""
        self._context = self._engine = self._runtime = None
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers = {}
        if self._stream:
            self._cuda.call("cudaStreamDestroy", self._stream)
            self._stream = 0

    def __enter__(self) -> TensorRtRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mode(self, name: str) -> Any:
        return self._engine.get_tensor_mode(name)

    def _spec(self, name: str, batch: int) -> TensorSpec:
        sizes = [None if size < 0 else size for size in self._engine.get_tensor_shape(name)]
        return batched_spec(name, self._dtype(name), sizes, batch)

    def _dtype(self, name: str) -> str:
        return str(np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))).name)

    def _allocate(self, engine: Path) -> None:
        for spec in self.inputs:
            if not self._context.set_input_shape(spec.name, spec.fixed()):
                raise ModelError(f"{engine}: input '{spec.name}' does not take {list(spec.shape)}: {self._log.reason}")
        for name in (*self.input_names, *self.output_names):
            shape = tuple(self._context.get_tensor_shape(name))
            if any(size < 0 for size in shape):
                raise ModelError(f"{engine}: the size of output '{name}' depends on the data: it cannot be read back")
            buffer = Buffer(self._cuda, shape, self._dtype(name))
            self._buffers[name] = buffer
            self._context.set_tensor_address(name, buffer.device)


def load(files: Mapping[str, Path], options: Mapping[str, str], *, threads: int, batch: int) -> TensorRtRunner:
    """Open the engine of `files["model"]`, that `build` left or that is built now; `files["engine"]` instead, if given.

    An engine that is given must have its header beside it, and be of this model, this TensorRT and this GPU. A GPU has
    no use for `threads`. Raises what `build` raises, and what `check_engine` raises.
    """
    if options:
        raise ConfigError(f"tensorrt: unknown options {sorted(options)}; there are none")
    cuda = Cuda()
    given = files.get("engine")
    if given is not None:
        _, _, identity = _wanted(files, batch, cuda)
        check_engine(given, identity)
    return TensorRtRunner(given or engine(files, batch=batch, cuda=cuda)[0], batch, cuda)


def build(files: Mapping[str, Path], *, batch: int) -> Compilation:
    """Have the engine of a variant ready for `load`; see `engine`, and what that raises."""
    begin = perf_counter()
    _, cached = engine(files, batch=batch, cuda=Cuda())
    return Compilation((perf_counter() - begin) * 1e3, cached)


def engine(files: Mapping[str, Path], *, batch: int, cuda: Cuda) -> tuple[Path, bool]:
    """The engine of `files["model"]` as `files["build"]` says, and whether it was among those that were built here.

    Raises MissingError where there is no GPU or another TensorRT than the file is for, ModelError where TensorRT
    refuses the file, OutputError where the engine cannot be kept.
    """
    build, shapes, identity = _wanted(files, batch, cuda)
    cache, model, how = EngineCache.default(), files["model"], os.environ.get(BUILDER, BUILDERS[0])
    if how not in BUILDERS:
        raise ConfigError(f"{BUILDER}={how}: known: {', '.join(BUILDERS)}")
    make = _by_python if how == BUILDERS[0] else _by_trtexec
    return cache.get(identity, model.stat().st_size, make(model, build, shapes, cache.timing(identity)))


def _wanted(files: Mapping[str, Path], batch: int, cuda: Cuda) -> tuple[Build, dict[str, Shapes], Identity]:
    """What is built, with the free sizes of inputs, and what it will be good for."""
    if "build" not in files:
        raise CorruptError(f"{files['model']}: no build.json says how its engine is built: compile again")
    build = read_build(files["build"])
    build.refuse_other(trt.__version__)
    shapes = build.for_batch(batch)
    flags = {"shapes": {name: [one.min, one.opt, one.max] for name, one in shapes.items()}, "builder": build.builder}
    return (
        build,
        shapes,
        Identity(
            model_sha256=sha256_of(files["model"]),
            tensorrt=trt.__version__,
            compute_capability=cuda.gpu.compute_capability,
            multiprocessors=cuda.gpu.multiprocessors,
            arch=architecture(),
            power_mode=power_mode() or "unknown",
            flags=json.dumps(flags, sort_keys=True),
        ),
    )


def _by_python(model: Path, build: Build, shapes: Mapping[str, Shapes], timing: Path) -> Callable[[Path], None]:
    def make(engine: Path) -> None:
        known = timing.read_bytes() if timing.is_file() else b""
        built = build_engine(trt, Log(trt), model, build, shapes, timing_cache=known)
        engine.write_bytes(built.engine)
        with suppress(OSError), whole(timing) as partial:  # without it the next build takes longer, and no more
            partial.write_bytes(built.timing_cache)

    return make


def _by_trtexec(model: Path, build: Build, shapes: Mapping[str, Shapes], timing: Path) -> Callable[[Path], None]:
    """In a process of its own, whose memory is nobody's here."""

    def make(engine: Path) -> None:
        program = trtexec.find_trtexec()
        arguments = trtexec.build_arguments(model, engine, build, shapes, timing_cache=timing)
        version = trtexec.version_of(trtexec.run_trtexec(arguments, model, program))
        if not trt.__version__.startswith(version):
            raise MissingError(f"{program} is TensorRT {version}, Python's is {trt.__version__}: set EDGEPRUNE_TRTEXEC")

    return make
