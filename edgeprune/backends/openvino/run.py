"""OpenVINO on the CPU: compiles the ONNX file when it is opened."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.backends.backend import Compilation, Feeds, batched_spec, check_feeds, shown
from edgeprune.errors import ConfigError, CorruptError, DataError, EdgePruneError, MissingError, ModelError
from edgeprune.tensor import TensorSpec

# Importing OpenVINO reports the import to Intel from a process of its own, in the middle of a measurement on a device.
# Where the reporting package cannot be imported, OpenVINO puts a stub in its place.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
try:
    import openvino as ov
except ImportError as error:
    raise MissingError(f"OpenVINO is missing ({error}): pip install 'edgeprune[openvino]'") from error

FIXED = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": "1",
    # left to itself it ties its thread to the first core and waits for it, while other runtimes take whichever is free
    "ENABLE_CPU_PINNING": "NO",
}
VERSION = ov.__version__.partition("-")[0]  # the rest is a build number
HINT, DIMENSIONS = "INFERENCE_PRECISION_HINT", "dimensions"
CACHE = "EDGEPRUNE_OPENVINO_CACHE"
"""Of this machine, and no option: options come with a bundle, which has no say in where files are written."""
COUNT = "PERF_COUNT"
LEAST_WINDOWS = 6
COLD_RUNS, WARM_RUNS = 5, 20
LENT_BYTES = 1 << 17
"""From which on an input is lent instead of copied: lending takes two microseconds, whatever the size."""
CUT_OFF_US = 0.5
"""What whole microseconds lose on average."""


class OpenVinoRunner:
    """One compiled model and one request, to whose own memory inputs are copied; large ones are lent."""

    device_bytes: int | None = None

    def __init__(
        self, model: Path, properties: Mapping[str, str], dimensions: Mapping[str, Sequence[int | str]], batch: int
    ) -> None:
        self._model, self._properties, self._dimensions, self._batch = model, properties, dimensions, batch
        core = ov.Core()
        try:
            graph = core.read_model(str(model))
            _fix_batch(graph, batch)
            begin = perf_counter()
            self._compiled: Any = core.compile_model(graph, "CPU", dict(properties))
            compile_ms = (perf_counter() - begin) * 1e3
        except RuntimeError as error:
            raise _error(model, error) from error
        self.compilation = Compilation(compile_ms, bool(self._compiled.get_property("LOADED_FROM_CACHE")))
        self._request: Any = self._compiled.create_infer_request()
        self.inputs = tuple(_spec(port, dimensions, batch) for port in self._compiled.inputs)
        self.input_names = tuple(spec.name for spec in self.inputs)
        self.output_names = tuple(port.any_name for port in self._compiled.outputs)
        # A dictionary handed to `infer` costs tens of microseconds in Python, more than a small network itself.
        tensors = [self._request.get_input_tensor(i) for i in range(len(self.input_names))]
        self._free = {
            spec.name: tensor
            for spec, tensor in zip(self.inputs, tensors, strict=True)
            if any(isinstance(size, str) for size in spec.shape)
        }
        fixed = [
            (i, n, t) for i, (n, t) in enumerate(zip(self.input_names, tensors, strict=True)) if n not in self._free
        ]
        self._in = {name: tensor.data for _, name, tensor in fixed if tensor.byte_size < LENT_BYTES}
        self._large = [(index, name, tensor) for index, name, tensor in fixed if tensor.byte_size >= LENT_BYTES]

    def infer(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Run once. Raises DataError where a name, dtype or shape does not fit."""
        check_feeds(self.inputs, feeds)
        for name, memory in self._in.items():
            np.copyto(memory, feeds[name])
        for index, name, own in self._large:
            self._request.set_input_tensor(index, _lent(feeds[name], own))
        for name, tensor in self._free.items():
            if tensor.shape != feeds[name].shape:  # then its memory is another
                tensor.shape = feeds[name].shape
            np.copyto(tensor.data, feeds[name])
        try:
            found = self._request.infer()
        except RuntimeError as error:
            refused = _error(self._model, error)
            raise DataError(f"{refused}; it was given {shown(feeds)}") if self._free else refused from error
        return dict(zip(self.output_names, found.to_tuple(), strict=True))  # copies already

    def evidence(self) -> dict[str, Any]:
        """Every operator of the compiled graph, in order, as OpenVINO's runtime model describes it."""
        operators = self._compiled.get_runtime_model().get_ordered_ops()
        told = self._compiled.get_property
        found = {
            "runtime": "openvino",
            "version": VERSION,
            "hint": told(HINT).get_type_name(),
            "streams": int(told("NUM_STREAMS")),
            "threads": int(told("INFERENCE_NUM_THREADS")),
            "loaded_from_cache": self.compilation.cached,
        }
        return {**found, "nodes": [_node(op) for op in operators]}

    def profile(self, batches: Sequence[Feeds], seconds: float) -> dict[str, Any]:
        """The evidence with the time of every operator, in models compiled anew that count it; see `Runner`.

        OpenVINO tells but the mean over all inferences of a compiled model, and one interrupt spoils that of the
        operator it hits: so several are compiled, and the median counts. Some names have a number in them that is
        another in each, so an operator is known by its place.
        """
        stop, every = perf_counter() + seconds, itertools.cycle(batches)
        windows: list[NDArray[np.float64]] = []
        while len(windows) < LEAST_WINDOWS or perf_counter() < stop:
            properties = {**self._properties, COUNT: "YES"}
            with OpenVinoRunner(self._model, properties, self._dimensions, self._batch) as counting:
                windows.append(counting._window(every))
                names = [one.node_name for one in counting._request.get_profiling_info()]
                described = counting.evidence()
        us = np.median(windows, axis=0)
        nodes = {node["name"]: node for node in described["nodes"]}
        timed = [(nodes[name], float(one)) for name, one in zip(names, us, strict=True) if name in nodes and one > 0]
        return {**described, "nodes": [{**node, "us": one} for node, one in timed]}

    def _window(self, batches: Iterator[Feeds]) -> NDArray[np.float64]:
        """Mean microseconds of each operator by its place, without the first, cold inferences."""
        cold, warm = self._counted(batches, COLD_RUNS), self._counted(batches, WARM_RUNS)
        us = ((COLD_RUNS + WARM_RUNS) * warm - COLD_RUNS * cold) / WARM_RUNS
        return np.where(warm > 0, np.maximum(us, 0) + CUT_OFF_US, 0)

    def _counted(self, batches: Iterator[Feeds], runs: int) -> NDArray[np.float64]:
        """Mean microseconds of each operator over all inferences, after `runs` more; 0 where it is done in another."""
        for _ in range(runs):
            self.infer(next(batches))
        return np.array([one.real_time.total_seconds() * 1e6 for one in self._request.get_profiling_info()])

    def close(self) -> None:
        """Give the compiled model back."""
        self._in, self._free, self._large = {}, {}, []
        self._request = self._compiled = None

    def __enter__(self) -> OpenVinoRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(files: Mapping[str, Path], options: Mapping[str, str], *, threads: int, batch: int) -> OpenVinoRunner:
    """Compile `files["model"]`, ONNX or IR; `options` must hold `INFERENCE_PRECISION_HINT`: `f32` or `bf16`.

    Left to itself OpenVINO chooses bfloat16 wherever the CPU has it, so there is no default. They may hold
    `dimensions`, the shapes with names of inputs that have free dimensions behind the batch, as JSON. From the folder
    EDGEPRUNE_OPENVINO_CACHE, where it is set, a model is loaded that this OpenVINO compiled before on such a processor.
    Raises CorruptError where the file cannot be parsed and ModelError where OpenVINO has no such operator.
    """
    if options.keys() - {DIMENSIONS} != {HINT}:
        raise ConfigError(f"openvino: options {sorted(options)} given; {HINT} is needed, and {DIMENSIONS} is known")
    properties = {**FIXED, HINT: options[HINT], "INFERENCE_NUM_THREADS": str(threads)}
    if folder := os.environ.get(CACHE):
        properties["CACHE_DIR"] = folder
    return OpenVinoRunner(files["model"], properties, json.loads(options.get(DIMENSIONS, "{}")), batch)


def write_ir(model: Path, out: Path) -> tuple[Path, Path]:
    """Write an ONNX file as OpenVINO's own format, `model.xml` and `model.bin`, into the folder `out`.

    Numbers stay as they are; OpenVINO itself would store floats as float16. Raises what `load` raises.
    """
    file = out / "model.xml"
    try:
        ov.save_model(ov.Core().read_model(str(model)), str(file), compress_to_fp16=False)
    except RuntimeError as error:
        raise _error(model, error) from error
    return file, file.with_suffix(".bin")


def _error(model: Path, error: RuntimeError) -> EdgePruneError:
    """What happened, told from the text: OpenVINO raises one type only."""
    text = " ".join(str(error).split())
    if not model.is_file() or "Unable to read the model" in text or "Could not open" in text:
        return CorruptError(f"{model}: not an ONNX file that can be read")
    reason = text.rpartition("Summary:")[2].strip(" -")
    return ModelError(f"{model}: OpenVINO {VERSION} refuses it: {reason}")


def _fix_batch(graph: Any, batch: int) -> None:
    free = [port for port in graph.inputs if port.partial_shape.rank.get_length() and port.partial_shape[0].is_dynamic]
    if free:
        graph.reshape({port: [batch, *list(port.partial_shape)[1:]] for port in free})


def _spec(port: Any, dimensions: Mapping[str, Sequence[int | str]], batch: int) -> TensorSpec:
    name = port.any_name
    sizes = [None if size.is_dynamic else size.get_length() for size in port.partial_shape]
    named = [called if size is None else size for size, called in zip(sizes, dimensions.get(name, sizes), strict=True)]
    return batched_spec(name, np.dtype(port.element_type.to_dtype()).name, named, batch)


def _lent(array: NDArray[Any], own: Any) -> Any:
    """A tensor on the array's memory, or `own` with a copy, where OpenVINO could not read the array as it is."""
    if array.flags.c_contiguous and array.flags.writeable:
        return ov.Tensor(array, shared_memory=True)
    np.copyto(own.data, array)
    return own


def _node(operator: Any) -> dict[str, Any]:
    info = operator.get_rt_info()

    def text(key: str) -> str:
        return str(info[key].astype(str)) if key in info else ""

    return {
        "name": operator.get_friendly_name(),
        "type": text("layerType"),
        "precision": text("runtimePrecision"),
        "primitive": text("primitiveType"),
        "layers": [name for name in text("originalLayersNames").split(",") if name],
        "inputs": [port.get_source_output().get_node().get_friendly_name() for port in operator.inputs()],
    }
