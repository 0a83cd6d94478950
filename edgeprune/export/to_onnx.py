"""Export a torch module as an ONNX file whose bytes depend on the module alone."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import logging
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]

from edgeprune.errors import ModelError
from edgeprune.graph.batch import BATCH
from edgeprune.graph.cleanup import clean
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.save import write_onnx
from edgeprune.graph.specs import tensor_specs
from edgeprune.models.calling import INPUT, inputs_of, run
from edgeprune.progress import SILENT, Progress
from edgeprune.tensor import TensorSpec

Example = Mapping[str, Tensor]
"""A module's inputs by name."""


@dataclass(frozen=True)
class Exported:
    """An ONNX file and how it came to be."""

    file: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    exporter: str
    """`dynamo` (torch.export) or `legacy` (TorchScript tracing)."""
    notes: tuple[str, ...]
    """Why it was not dynamo."""


def export(
    model: nn.Module, specs: Sequence[TensorSpec], out: Path, *, opset: int = 20, progress: Progress = SILENT
) -> Exported:
    """Write `model`, in evaluation mode, for those of the data's tensors that it takes, with a free batch.

    Every weight keeps its torch name and every layer is named after its weight. Raises ModelError where the module
    cannot take such inputs or neither exporter can translate it, OSError where the file cannot be written.
    """
    inputs = inputs_of(model, specs)
    example = {spec.name: torch.zeros(spec.fixed(batch=2), dtype=getattr(torch, spec.dtype)) for spec in inputs}
    with progress.task("export", total=2) as task, _evaluating(model):
        outputs = _output_names(model, example)
        with _quiet():
            raw, exporter, notes = _translate(model, example, opset, outputs)
        task.advance(note=exporter)
        _restore_names(raw, model)
        for node in raw.graph:
            node.name = ""  # each exporter has names of its own: `clean` gives better ones
        graph = clean(raw, opset=opset)
        _check_free_batch(graph, model)
        write_onnx(graph, out)
        task.advance()
    for note in notes:
        progress.say(note)
    return Exported(out, tensor_specs(graph.graph.inputs), tensor_specs(graph.graph.outputs), exporter, notes)


def _output_names(model: nn.Module, example: Example) -> list[str]:
    """Run the module once; the names of what it returns."""
    try:
        with torch.no_grad():
            return list(run(model, example))
    except ModelError:
        raise
    except Exception as error:  # a user's module may raise anything
        shapes = [list(one.shape) for one in example.values()]
        given = shapes[0] if len(shapes) == 1 else shapes
        raise ModelError(f"{_name(model)} fails on an input of {given}: {_reason(error)}") from error


def _translate(
    model: nn.Module, example: Example, opset: int, outputs: list[str]
) -> tuple[ir.Model, str, tuple[str, ...]]:
    try:
        return _by_dynamo(model, example, opset, outputs), "dynamo", ()
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        refused = _reason(error)
    try:
        traced = _by_tracing(model, example, opset, outputs)
    except (torch.onnx.OnnxExporterError, RuntimeError, TracerWarning) as error:
        both = f"torch.export: {refused}; tracing: {_reason(error)}"
        raise ModelError(f"{_name(model)} cannot be exported to ONNX: {both}") from error
    return traced, "legacy", (f"exported by tracing, because torch.export refused: {refused}",)


def _by_dynamo(model: nn.Module, example: Example, opset: int, outputs: list[str]) -> ir.Model:
    positional, named = _arguments(model, example)
    program = torch.onnx.export(
        model,
        positional,
        kwargs=named,
        dynamo=True,
        opset_version=opset,
        dynamic_shapes=_free_batches(model, example),
        input_names=list(example),
        output_names=outputs,
        verbose=False,
    )
    assert program is not None
    return ir.from_proto(program.model_proto)


def _by_tracing(model: nn.Module, example: Example, opset: int, outputs: list[str]) -> ir.Model:
    buffer: Any = io.BytesIO()
    positional, named = _arguments(model, example)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TracerWarning)
        torch.onnx.export(
            model,
            positional,
            buffer,
            kwargs=named,
            dynamo=False,
            opset_version=opset,
            input_names=list(example),
            output_names=outputs,
            dynamic_axes={name: {0: BATCH} for name in (*example, *outputs)},
        )
    for warning in caught:
        if isinstance(warning.message, TracerWarning):  # from there on the trace is right for this one input only
            raise warning.message
    return ir.from_proto(onnx.load_from_string(buffer.getvalue()))


def _arguments(model: nn.Module, example: Example) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """What it takes by its place, and what by name."""
    if example.keys() == {INPUT} and INPUT not in inspect.signature(model.forward).parameters:
        return (example[INPUT],), {}
    return (), dict(example)


def _free_batches(model: nn.Module, example: Example) -> Any:
    batch = {0: torch.export.Dim(BATCH)}
    positional, named = _arguments(model, example)
    return tuple(batch for _ in positional) or dict.fromkeys(named, batch)


def _restore_names(graph: ir.Model, model: nn.Module) -> None:
    """Call a weight that an exporter transposed by its parameter's name again.

    A Linear on more than two dimensions becomes a MatMul with the transposed weight, under a number for a name.
    """
    parameters = dict(model.named_parameters())
    transposed = {_digest(p.detach().T.numpy()): name for name, p in parameters.items() if p.dim() == 2}
    initializers = graph.graph.initializers
    for layer in weighted_layers(graph):
        tensor = initializers[layer.weight].const_value
        name = None if tensor is None else transposed.get(_digest(tensor.numpy()))
        if name is not None and layer.weight not in parameters and name not in initializers:
            initializers[layer.weight].name = name


def _digest(array: NDArray[Any]) -> tuple[tuple[int, ...], bytes]:
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()


def _check_free_batch(graph: ir.Model, model: nn.Module) -> None:
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        if value.shape is not None and isinstance(value.shape[0], int):
            raise ModelError(
                f"{_name(model)} fixes the batch of its {value.name} to {value.shape[0]}:"
                " write x.flatten(1) or x.view(x.shape[0], -1) where it reshapes"
            )


def _name(model: nn.Module) -> str:
    return type(model).__name__


def _reason(error: Exception) -> str:
    """What went wrong at the bottom: the exporters wrap it in pages of advice."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    first_line = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
    return f"{type(error).__name__}: {textwrap.shorten(first_line, 160, placeholder=' ...')}"


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off and batch statistics fixed, for as long as it lasts."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, log lines or printed graphs: the exporters tell of every optional package they do not find."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
