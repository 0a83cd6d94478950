"""Build an engine with the Python API, on the machine whose GPU it is for.

One code path for TensorRT 10.3 to 11: the network is strongly typed, so Q/DQ and Cast in the file say which precision
runs, and neither a calibrator nor a precision flag is there to be asked. `trt` is the module of the bindings; that of
TensorRT-RTX, NVIDIA's compiler that needs no GPU, has the same calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edgeprune.backends.tensorrt.build_file import Build, Shapes
from edgeprune.errors import CorruptError, EdgePruneError, MissingError, ModelError

SOURCE = re.compile(r"^\w+\.cpp:\d+: ")
"""Where in NVIDIA's code an error was raised."""


class Built(NamedTuple):
    """What a build leaves."""

    engine: bytes
    timing_cache: bytes
    """The times of kernels that it took, and those that it was given."""


class Log:
    """What TensorRT says, kept; its errors and warnings stand nowhere else."""

    def __init__(self, trt: Any, *, verbose: bool = False) -> None:
        errors = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)
        self.errors: list[str] = []
        self.lines: list[str] = []
        """All of them, where it is `verbose`: with a detailed build, the layers among them."""
        kept = self

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                if severity in errors:
                    kept.errors.append(" ".join(text.split()))
                if verbose:
                    kept.lines.append(text)

        self.logger = Logger()

    @property
    def reason(self) -> str:
        """The last error in one line."""
        return self.errors[-1] if self.errors else "it says nothing of why"


def build_engine(
    trt: Any,
    log: Log,
    model: Path,
    build: Build,
    shapes: Mapping[str, Shapes],
    *,
    timing_cache: bytes = b"",
    configure: Callable[[Any], None] = lambda config: None,
) -> Built:
    """Parse the file and compile it for the GPU that is here, or what `configure` sets.

    Raises MissingError where there is no GPU, CorruptError where the file cannot be read, ModelError naming the node
    that the parser refuses, or with what the compiler says.
    """
    try:
        builder = trt.Builder(log.logger)
    except (TypeError, RuntimeError) as error:  # its factory gives a null pointer
        raise MissingError(f"TensorRT {trt.__version__} finds no GPU to build for: {log.reason}") from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(model)):
        raise _unparsed(trt, parser, log, model, build)
    if not network.num_outputs:  # of no bytes the parser makes a network of nothing
        raise _unreadable(trt, model)
    config = builder.create_builder_config()
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, build.builder["profiling_verbosity"].upper())
    if not build.builder["tf32"]:
        config.clear_flag(trt.BuilderFlag.TF32)
    if build.builder["sparse_weights"]:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if shapes:
        profile = builder.create_optimization_profile()
        for name, one in shapes.items():
            profile.set_shape(name, one.min, one.opt, one.max)
        config.add_optimization_profile(profile)
    known = config.create_timing_cache(timing_cache)
    if known is None or not config.set_timing_cache(known, ignore_mismatch=False):  # damaged, or of another GPU
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    configure(config)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise _refused(trt, model, build, log.reason)
    return Built(bytes(engine), bytes(config.get_timing_cache().serialize()))


def _unparsed(trt: Any, parser: Any, log: Log, model: Path, build: Build) -> EdgePruneError:
    """The parser's first error where it names a node, else the first of the log: others follow from them."""
    error = parser.get_error(0) if parser.num_errors else None
    if error is not None and error.code() == trt.ErrorCode.MODEL_DESERIALIZE_FAILED:
        return _unreadable(trt, model)
    if error is not None and error.node_name():
        what = " ".join(error.desc().split())
        return _refused(trt, model, build, f"node '{error.node_name()}' ({error.node_operator()}): {what}")
    return _refused(trt, model, build, SOURCE.sub("", log.errors[0]) if log.errors else log.reason)


def _unreadable(trt: Any, model: Path) -> CorruptError:
    return CorruptError(f"{model}: not an ONNX file that can be read, says TensorRT {trt.__version__}")


def _refused(trt: Any, model: Path, build: Build, reason: str) -> ModelError:
    unproven = f" (unproven: {build.unproven})" if build.unproven else ""
    return ModelError(f"{model}: TensorRT {trt.__version__} refuses it{unproven}: {reason}")
