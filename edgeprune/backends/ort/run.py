"""ONNX Runtime: the engine is the ONNX file itself."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.backends.backend import Compilation, Feeds, batched_spec, check_feeds, midmean, shown
from edgeprune.errors import ConfigError, CorruptError, DataError, EdgePruneError, MissingError, ModelError
from edgeprune.tensor import TensorSpec

try:
    import onnxruntime as ort
except ImportError as error:
    raise MissingError(f"ONNX Runtime is missing ({error}): pip install 'edgeprune[ort]'") from error

PROVIDER = "CPUExecutionProvider"
OPTIMIZATION = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,  # computes what the file says: Q/DQ stays in float
}
_raised = ort.capi.onnxruntime_pybind11_state
UNREADABLE = (_raised.InvalidProtobuf, _raised.NoSuchFile, _raised.NoModel)
REFUSALS = (
    _raised.Fail,
    _raised.InvalidArgument,
    _raised.InvalidGraph,
    _raised.NotImplemented,
    _raised.RuntimeException,
)
DTYPES = {"float": "float32", "double": "float64"}
"""NumPy's names of the types that ONNX Runtime calls otherwise."""
TYPES = ("float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", *DTYPES)
"""What NumPy holds too: no bfloat16, text or sequences."""
LEAST_RUNS, MOST_RUNS = 20, 400
"""Of a profile. It keeps a million events at most, so that networks of a thousand nodes fit."""
CUT_OFF_US = 0.5
"""What whole microseconds lose on average."""


class OrtRunner:
    """One session on the CPU, in one thread pool of its own."""

    compilation: Compilation | None = None  # a session is read and optimized in one
    device_bytes: int | None = None

    def __init__(self, model: Path, level: str, threads: int, batch: int) -> None:
        self._model, self._level, self._threads, self._batch = model, level, threads, batch
        self._session: Any = self._open()
        self.inputs = tuple(_spec(node, model, batch) for node in self._session.get_inputs())
        self.input_names = tuple(spec.name for spec in self.inputs)
        self.output_names = tuple(node.name for node in self._session.get_outputs())
        self._free = any(isinstance(size, str) for spec in self.inputs for size in spec.shape)
        self._last: Feeds = {}

    def infer(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Run once. Raises DataError where a name, dtype or shape does not fit."""
        check_feeds(self.inputs, feeds)
        if self._free:
            self._last = feeds
        try:
            return dict(zip(self.output_names, self._session.run(None, feeds), strict=True))
        except REFUSALS as error:
            refused = _error(self._model, error)
            raise DataError(f"{refused}; it was given {shown(feeds)}") if self._free else refused from error

    def evidence(self) -> dict[str, Any]:
        """Every node that was executed, in order, as ONNX Runtime's own profile of one run tells.

        The profile is taken in a second session that lives for that one run: profiling costs time in each node.
        Free dimensions have the sizes of the last inference, or else 1.
        """
        shapes = {name: array.shape for name, array in self._last.items()}
        feeds = {spec.name: np.zeros(shapes.get(spec.name, spec.fixed()), spec.dtype) for spec in self.inputs}
        return _evidence([_node(event) for event in self._executed(lambda session: session.run(None, feeds))])

    def profile(self, batches: Sequence[Feeds], seconds: float) -> dict[str, Any]:
        """The evidence with the time of every node, in a second session that profiles; see `Runner`."""

        def run(session: Any) -> None:
            stop = perf_counter() + seconds
            for done, feeds in enumerate(itertools.cycle(batches)):
                if done >= MOST_RUNS or (done >= LEAST_RUNS and perf_counter() >= stop):
                    return
                session.run(None, feeds)

        durations: dict[str, list[float]] = {}
        nodes: dict[str, dict[str, Any]] = {}
        for event in self._executed(run):
            node = _node(event)
            nodes.setdefault(node["name"], node)
            durations.setdefault(node["name"], []).append(event["dur"])
        return _evidence([{**node, "us": midmean(durations[name]) + CUT_OFF_US} for name, node in nodes.items()])

    def _executed(self, run: Callable[[Any], object]) -> list[dict[str, Any]]:
        """What a session of its own says of every node that `run` had it execute, in order."""
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            session = self._open(profile=Path(folder) / "profile")
            run(session)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return list(_kernels(events))

    def close(self) -> None:
        """Give the session back."""
        self._session, self._last = None, {}

    def __enter__(self) -> OrtRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, profile: Path | None = None) -> Any:
        # only an open session tells its dimensions' names, and most models have but the usual one
        session = self._session_with(("batch",), profile)
        named = _leading_names(session)
        return self._session_with(("batch", *named), profile) if named else session

    def _session_with(self, free: Sequence[str], profile: Path | None) -> Any:
        options = ort.SessionOptions()
        options.graph_optimization_level = OPTIMIZATION[self._level]
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3  # errors; they are also raised
        for name in free:
            options.add_free_dimension_override_by_name(name, self._batch)
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        try:
            session = ort.InferenceSession(str(self._model), options, providers=[PROVIDER])
        except (*UNREADABLE, *REFUSALS) as error:
            raise _error(self._model, error) from error
        if session.get_providers() != [PROVIDER]:  # it takes another without a word
            raise MissingError(
                f"ONNX Runtime {ort.__version__} has no {PROVIDER}: `edgeprune doctor` looks for the cause"
            )
        return session


def load(files: Mapping[str, Path], options: Mapping[str, str], *, threads: int, batch: int) -> OrtRunner:
    """Open `files["model"]`; `options` may hold `graph_optimization`: `all` (default) or `disable`.

    Raises CorruptError where the file cannot be parsed and ModelError where this ONNX Runtime has no such operator.
    """
    if unknown := options.keys() - {"graph_optimization"}:
        raise ConfigError(f"ort: unknown options {sorted(unknown)}; known: graph_optimization")
    level = options.get("graph_optimization", "all")
    if level not in OPTIMIZATION:
        raise ConfigError(f"ort: graph_optimization is {level!r}; known: {', '.join(OPTIMIZATION)}")
    return OrtRunner(files["model"], level, threads, batch)


def _error(model: Path, error: Exception) -> EdgePruneError:
    reason = " ".join(str(error).split()).rpartition("failed:")[2].removeprefix("[ONNXRuntimeError] : ")
    # what ONNX Runtime calls an empty file is an invalid argument
    if isinstance(error, UNREADABLE) or "No graph was found" in reason:
        return CorruptError(f"{model}: not an ONNX file that can be read: {reason}")
    return ModelError(f"{model}: ONNX Runtime {ort.__version__} refuses it: {reason}")


def _leading_names(session: Any) -> tuple[str, ...]:
    """The names that stand for the batch. One that stands behind another dimension too can only be left free."""
    shapes = [node.shape for node in session.get_inputs()]
    behind = {size for shape in shapes for size in shape[1:]}
    return tuple(sorted({size for shape in shapes for size in shape[:1] if isinstance(size, str)} - behind))


def _spec(node: Any, model: Path, batch: int) -> TensorSpec:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    if kind not in TYPES:
        raise ModelError(f"{model}: input '{node.name}' is {node.type}: only tensors of numbers can be given")
    return batched_spec(node.name, DTYPES.get(kind, kind), node.shape, batch)


def _evidence(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"runtime": "onnxruntime", "version": ort.__version__, "provider": PROVIDER, "nodes": nodes}


def _kernels(events: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"))


def _node(event: dict[str, Any]) -> dict[str, Any]:
    args = event["args"]
    return {
        "name": event["name"].removesuffix("_kernel_time"),
        "op": args["op_name"],
        "provider": args["provider"],
        "inputs": [next(iter(tensor)) for tensor in args["input_type_shape"]],  # [{dtype: shape}, ...]
    }
