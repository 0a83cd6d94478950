"""Read an ONNX file that somebody else may have written: what cannot be used is refused here, in one line."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgeprune.errors import CorruptError, ModelError

OPSETS = range(9, 25)
"""Opsets of the default domain that are read."""
LIMIT_BYTES = 2**31 - 1
"""A protobuf message cannot be larger."""
HEAVY_BYTES = 1 << 25
"""Of a file, from where it is worth the tenth of a second to look for graphs that can go first."""
LARGE_BYTES = 4096
"""No tensor of so many is a shape, an axis or what else values are that shapes follow from."""


def read_onnx(path: Path) -> ir.Model:
    """Read a model with all its tensors in memory and the shapes of its values inferred.

    Raises CorruptError where the file is missing or its bytes are no ONNX model, ModelError where the model is one
    that cannot be used: its opset, an operator the opset does not have, tensors outside its folder or of more than two
    gigabytes, shapes that contradict each other, or nothing that is computed.
    """
    if not path.is_file():
        raise CorruptError(f"{path}: no such file")
    if path.stat().st_size >= HEAVY_BYTES:
        give_back()
    try:
        proto = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise CorruptError(f"{path}: not an ONNX file, or cut short: export or copy it again") from error
    for entry in proto.opset_import:
        entry.domain = "" if entry.domain == "ai.onnx" else entry.domain
    if not proto.opset_import or not proto.graph.output:
        raise CorruptError(f"{path}: not an ONNX model: it has no opset or no outputs")
    if not proto.graph.node:
        raise ModelError(f"{path}: the model computes nothing: it has no nodes")
    try:
        _check_operators(proto, path)
        _check_external(proto, path)
        onnx.load_external_data_for_model(proto, str(path.parent))
        order = [tensor.name for tensor in proto.graph.initializer]
        large, stand_ins = _without_large(proto)
        onnx.checker.check_model(proto)
        for tensor in large:
            onnx.checker.check_tensor(tensor)
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        del proto
        model: ir.Model = ir.from_proto(inferred)
        ir.to_proto(model)  # text that is not UTF-8 shows only when it is written
        _put_back(model.graph, large, stand_ins, order)
    except (ModelError, CorruptError):
        raise
    except Exception as error:  # the readers above raise nearly anything for a malformed graph
        raise ModelError(f"{path}: the graph is not valid ONNX: {_first_line(error)}") from error
    return model


def give_back() -> None:
    """Free what graphs that are of no use any more still hold: their nodes and values name each other."""
    gc.collect()


def _without_large(proto: onnx.ModelProto) -> tuple[list[onnx.TensorProto], set[str]]:
    """Take tensors whose values say nothing of shapes out of a model, which is then copied time and again.

    Inputs stand in for them; gives the tensors, and the names of those inputs that were not there before.
    """
    graph = proto.graph
    large: list[onnx.TensorProto] = []
    small: list[onnx.TensorProto] = []
    for tensor in graph.initializer:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)  # one of its own: what is left in the model lives as long as all of it
        (large if len(tensor.raw_data) >= LARGE_BYTES else small).append(copy)
    del graph.initializer[:]
    graph.initializer.extend(small)
    stand_ins = {tensor.name for tensor in large} - {one.name for one in graph.input}
    graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in large
        if tensor.name in stand_ins
    )
    return large, stand_ins


def _put_back(
    graph: ir.Graph, large: Iterable[onnx.TensorProto], stand_ins: Collection[str], order: Iterable[str]
) -> None:
    """In the order that they had."""
    found = {str(value.name): value for value in graph.inputs} | dict(graph.initializers)
    for tensor in large:
        found[tensor.name].const_value = ir.serde.deserialize_tensor(tensor)
    for name in stand_ins:
        graph.inputs.remove(found[name])
    graph.initializers.clear()
    for name in order:
        graph.initializers.add(found[name])


def files_of(path: Path) -> tuple[Path, ...]:
    """The file of a model and those that its tensors lie in. Raises CorruptError where it is no ONNX model."""
    try:
        proto = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, OSError) as error:
        raise CorruptError(f"{path}: not an ONNX file, or cut short: export or copy it again") from error
    places = {
        path.parent / onnx.external_data_helper.ExternalDataInfo(tensor).location
        for tensor in _tensors(proto.graph)
        if onnx.external_data_helper.uses_external_data(tensor)
    }
    return (path, *sorted(place for place in places if place.is_file()))


def opset(model: ir.Model) -> int:
    """The model's opset in the default domain."""
    return model.opset_imports[""]


def _check_operators(proto: onnx.ModelProto, path: Path) -> None:
    version = next((entry.version for entry in proto.opset_import if entry.domain == ""), None)
    if version is None or version not in OPSETS:
        found = "no opset of the default domain" if version is None else f"opset {version}"
        raise ModelError(f"{path}: {found}: opsets {OPSETS.start} to {OPSETS.stop - 1} are read; export it again")
    for node in _nodes(proto.graph):
        if node.domain in ("", "ai.onnx") and not has_operator(version, node.op_type):
            where = node.name or next(iter(node.output), "?")
            raise ModelError(f"{path}: node '{where}': ONNX opset {version} has no operator {node.op_type}")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
            for subgraph in attribute.graphs:
                yield from _nodes(subgraph)


def has_operator(version: int, op_type: str) -> bool:
    """Whether this opset of the default domain has an operator, and has not given it up."""
    try:
        return not onnx.defs.get_schema(op_type, version, "").deprecated
    except onnx.defs.SchemaError:
        return False


def _check_external(proto: onnx.ModelProto, path: Path) -> None:
    """Tensors may lie beside the file, but only inside its folder, and whole."""
    folder, total_bytes = path.resolve().parent, path.stat().st_size
    for tensor in _tensors(proto.graph):
        if not onnx.external_data_helper.uses_external_data(tensor):
            continue
        info = onnx.external_data_helper.ExternalDataInfo(tensor)
        file = (folder / info.location).resolve()
        if not file.is_relative_to(folder):
            raise ModelError(f"{path}: tensor '{tensor.name}' lies outside the model's folder ({info.location})")
        if not file.is_file():
            raise CorruptError(f"{path}: the file of tensor '{tensor.name}' is missing: {file}")
        needed_bytes = int(info.offset or 0) + int(info.length or 0)
        if file.stat().st_size < needed_bytes:
            raise CorruptError(f"{file}: cut short: tensor '{tensor.name}' needs {needed_bytes} bytes")
        total_bytes += int(info.length or file.stat().st_size)
    if total_bytes > LIMIT_BYTES:
        raise ModelError(
            f"{path}: {total_bytes} bytes of weights; only models that fit one file ({LIMIT_BYTES}) are read"
        )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in _nodes(graph):
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
            for subgraph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from subgraph.initializer


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
