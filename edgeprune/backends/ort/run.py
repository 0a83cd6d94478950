"""ONNX Runtime: the engine is the ONNX file itself."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.backends.backend import Feeds, check_feeds
from edgeprune.errors import ConfigError, CorruptError, EdgePruneError, MissingError, ModelError
from edgeprune.tensor import TensorSpec

try:
    import onnxruntime as ort
except ImportError as error:
    raise MissingError(f"ONNX Runtime is missing ({error}): pip install 'edgeprune[ort]'") from error

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


class OrtRunner:
    """One session on the CPU, in one thread pool of its own."""

    def __init__(self, model: Path, level: str, threads: int, batch: int) -> None:
        self._model, self._level, self._threads, self._batch = model, level, threads, batch
        self._session: Any = self._open()
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.input_names = tuple(spec.name for spec in self.inputs)
        self.output_names = tuple(node.name for node in self._session.get_outputs())

    def infer(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Run once. Raises DataError where a name, dtype or shape does not fit."""
        check_feeds(self.inputs, feeds)
        try:
            return dict(zip(self.output_names, self._session.run(None, feeds), strict=True))
        except REFUSALS as error:
            raise _error(self._model, error) from error

    def evidence(self) -> dict[str, Any]:
        """Every node that was executed, in order, as ONNX Runtime's own profile of one run tells.

        The profile is taken in a second session that lives for that one run: profiling costs time in each node.
        """
        feeds = {spec.name: np.zeros(spec.fixed(), spec.dtype) for spec in self.inputs}
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            session = self._open(profile=Path(folder) / "profile")
            session.run(None, feeds)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return {"runtime": "onnxruntime", "version": ort.__version__, "nodes": [_node(e) for e in _kernels(events)]}

    def close(self) -> None:
        """Give the session back."""
        self._session = None

    def __enter__(self) -> OrtRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, profile: Path | None = None) -> Any:
        # only an open session tells its dimensions' names, and most models have but the usual one
        session = self._session_with(("batch",), profile)
        free = _free_dimensions(session, self._model)
        return self._session_with(("batch", *free), profile) if free else session

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
            return ort.InferenceSession(str(self._model), options, providers=["CPUExecutionProvider"])
        except (*UNREADABLE, *REFUSALS) as error:
            raise _error(self._model, error) from error


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


def _free_dimensions(session: Any, model: Path) -> tuple[str, ...]:
    sizes = [(node.name, size) for node in session.get_inputs() for size in node.shape if not isinstance(size, int)]
    for name, size in sizes:
        if size is None:
            raise ModelError(f"{model}: input {name!r} has a free dimension without a name: give it one, e.g. 'batch'")
    return tuple(sorted({size for _, size in sizes}))


def _spec(node: Any) -> TensorSpec:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    return TensorSpec(node.name, {"float": "float32", "double": "float64"}.get(kind, kind), tuple(node.shape))


def _kernels(events: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"))


def _node(event: dict[str, Any]) -> dict[str, Any]:
    args = event["args"]
    return {
        "name": event["name"].removesuffix("_kernel_time"),
        "op": args["op_name"],
        "inputs": [next(iter(tensor)) for tensor in args["input_type_shape"]],  # [{dtype: shape}, ...]
    }
