"""Bring a graph into the form that fuses best once it is quantized, and name its nodes."""

from __future__ import annotations

import re
from collections import Counter

import onnx
import onnx_ir as ir
import onnxsim
from onnx_ir.passes import common

from edgeprune.errors import ModelError
from edgeprune.graph.fusion import NoGuardAgainstNothing, OneTranspose, ScaleBehindProduct
from edgeprune.graph.layers import RECURRENT, as_layer, weighted_layers
from edgeprune.graph.load import has_operator
from edgeprune.graph.load import opset as opset_of
from edgeprune.graph.quantized import float_name, stored_weight

OPSET = 20
"""The newest that TensorRT 10.3 (JetPack 6) reads; all that INT8 needs."""


def clean(model: ir.Model, *, opset: int = OPSET, keep_quantized: bool = False) -> ir.Model:
    """Return the model at `opset`, constants folded, without metadata or dead ends, as the passes below describe.

    Batch normalization goes into the convolution before it; weights keep their names. A clean graph stays as it is.
    What stands in the branches of an If or the body of a Loop is left alone.
    With `keep_quantized` nothing is folded, rewritten or brought to `opset`, only named, and rid of what is not needed:
    a graph with Q/DQ pairs gives the same numbers, bit for bit.
    Raises ModelError naming the node where the model uses what that opset cannot express, an operator that is not
    ONNX's own, sequences, or weights other than float32.
    """
    graph = common.InlinePass()(model.clone()).model
    _check_standard(graph)
    if not keep_quantized:
        graph = _simplified(_at_opset(graph, opset))
    passes = ir.passes.Sequential(
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveInitializersFromInputsPass(),
        *(() if keep_quantized else REWRITES),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.TopologicalSortPass(),
        NameNodes(),
        common.ShapeInferencePass(),
        common.ClearMetadataAndDocStringPass(),
    )
    cleaned = passes(graph).model
    cleaned.producer_name, cleaned.producer_version = "edgeprune", None
    cleaned.metadata_props.clear()
    return cleaned


class MeanToGlobalPool(ir.passes.InPlacePass):
    """Average over all of height and width with the operator that has an integer kernel.

    ReduceMean(axes=[2, 3])   becomes   GlobalAveragePool, and Flatten behind it where keepdims=0
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such mean."""
        found = [node for node in model.graph if _is_spatial_mean(node)]
        for node in found:
            kept = node.attributes.get_int("keepdims", 1)
            _replace(node, ["GlobalAveragePool"] if kept else ["GlobalAveragePool", "Flatten"])
        return ir.passes.PassResult(model, modified=bool(found))


class WholePoolToGlobalPool(ir.passes.InPlacePass):
    """Name an average over the whole plane what it is.

    AveragePool(kernel_shape=[8, 8]) on [N, C, 8, 8]   becomes   GlobalAveragePool
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such pool."""
        found = [node for node in model.graph if _is_whole_pool(node)]
        for node in found:
            _replace(node, ["GlobalAveragePool"])
        return ir.passes.PassResult(model, modified=bool(found))


class ReluBeforePool(ir.passes.InPlacePass):
    """Move a ReLU behind a max pool to where it becomes part of the layer before; both orders give the same numbers.

    conv -> MaxPool -> Relu   becomes   conv -> Relu -> MaxPool
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Swap every such pair."""
        pools = [node for node in model.graph if node.op_type == "MaxPool" and _feeds_only_relu(node)]
        for pool in pools:
            (relu,) = pool.outputs[0].consumers()
            end = relu.outputs[0]
            ir.convenience.replace_all_uses_with(end, pool.outputs[0], replace_graph_outputs=True)
            relu.replace_input_with(0, pool.inputs[0])
            pool.replace_input_with(0, end)
            pool.outputs[0].name, end.name = end.name, pool.outputs[0].name
            end.shape = relu.inputs[0].shape if relu.inputs[0] is not None else None
        model.graph.sort()
        return ir.passes.PassResult(model, modified=bool(pools))


class DropIdentity(ir.passes.InPlacePass):
    """Leave out what changes nothing, but for an output that is an input, a constant or an output already.

    a = Relu(x)  y = Identity(a)   becomes   y = Relu(x)

    The Identity of a branch or a body stays: it gives a name inside to what may lie outside.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Drop each in turn."""
        found = [node for node in model.graph if node.domain == "" and node.op_type == "Identity" and _drop(node)]
        return ir.passes.PassResult(model, modified=bool(found))


def _drop(node: ir.Node) -> bool:
    source, end, graph = node.inputs[0], node.outputs[0], node.graph
    assert graph is not None
    is_output = end.is_graph_output()
    if source is None or (
        is_output and (source.is_graph_input() or source.is_initializer() or source.is_graph_output())
    ):
        return False
    source.shape, source.type = source.shape or end.shape, source.type or end.type
    ir.convenience.replace_all_uses_with(end, source, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    if is_output:
        source.name = end.name
    return True


REWRITES = (
    DropIdentity(),
    MeanToGlobalPool(),
    WholePoolToGlobalPool(),
    ReluBeforePool(),
    OneTranspose(),
    ScaleBehindProduct(),
    NoGuardAgainstNothing(),
)


class NameNodes(ir.passes.InPlacePass):
    """Name nodes that only a counter named: a layer after its weight, any other after its kind; its values after it.

    node_Conv_371(x, layer1.0.conv1.weight)   becomes   layer1.0.conv1;   the second Relu   becomes   relu_2.
    A layer whose weight only a counter named, as a transposed one, is called like its module, where that is told.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Give the names, in the order of computation."""
        counts = Counter(node.name for node in model.graph)
        counted = [node for node in model.graph if counts[node.name] > 1 or _COUNTER.fullmatch(node.name or "")]
        nodes = counts.keys() - {node.name for node in counted}
        values: set[str | None] = {*ir.convenience.create_value_mapping(model.graph)}
        values |= {output.name for node in model.graph.all_nodes() for output in node.outputs}  # also of inner graphs
        values -= {output.name for node in counted for output in _inner_outputs(node)}
        for node in counted:
            node.name = _take(_own_name(node), nodes)
            for output in _inner_outputs(node):
                output.name = _take(node.name, values)
        return ir.passes.PassResult(model, modified=bool(counted))


_COUNTER = re.compile(r"(node_.*|\w+_\d+)?")
"""What exporters call a node they know nothing of: nothing, `node_relu_3`, `Conv_12`."""


_NUMBER = re.compile(r"((val|_v|t)_)?\d+|onnx::\w+|unsqueeze(_\d+)?")
"""What exporters call a tensor they know nothing of: `val_92`, `347`, `onnx::MatMul_347`; `unsqueeze_2`."""


def _own_name(node: ir.Node) -> str:
    if (weight := stored_weight(node)) is not None:
        name = float_name(str(weight.name))
        return (_is_number(name) and _module(node)) or name.removesuffix(".weight")
    if node.op_type in RECURRENT and (name := _recurrent_name(node) or _module(node)):
        return name
    if node.op_type == "Gather" and (layer := as_layer(node)) is not None and not _is_number(layer.weight):
        return layer.weight.removesuffix(".weight")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.op_type).lower()


def _recurrent_name(node: ir.Node) -> str:
    weight = str(node.inputs[1].name) if node.inputs[1] is not None else ""
    return weight.removesuffix(RECURRENT_WEIGHTS[0]) if weight.endswith(RECURRENT_WEIGHTS[0]) else ""


def _module(node: ir.Node) -> str:
    """The torch module that a node came from: as torch.export noted it, as its path, or as its bias is called."""
    scopes = re.findall(r"'([^']*)'", node.metadata_props.get("pkg.torch.onnx.name_scopes", ""))
    if scopes[-2:-1] and scopes[-2]:
        return str(scopes[-2])
    if (path := _of_path(node.name or "")) != node.name:
        return path
    biases = [value for value in node.inputs[2:] if value is not None]
    biases += [value for use in node.outputs[0].consumers() if use.op_type == "Add" for value in use.inputs if value]
    return next((str(value.name)[:-5] for value in biases if str(value.name).endswith(".bias")), "")


def _of_path(name: str) -> str:
    """The module in a name of the older exporter: `/encoder/query/MatMul` is in encoder.query; others stay."""
    return name.rpartition("/")[0].strip("/").replace("/", ".") if name.startswith("/") else name


def _inner_outputs(node: ir.Node) -> list[ir.Value]:
    return [output for output in node.outputs if output.name and not output.is_graph_output()]


def _take(name: str, taken: set[str | None]) -> str:
    """`name`, or the first of `name_2`, `name_3`, ... that is free; from now on it is taken."""
    number = 1
    while (candidate := name if number == 1 else f"{name}_{number}") in taken:
        number += 1
    taken.add(candidate)
    return candidate


def _replace(node: ir.Node, chain: list[str]) -> None:
    """Put a chain of operators without attributes in a node's place; its output keeps its name."""
    graph, value, old = node.graph, node.inputs[0], node.outputs[0]
    assert graph is not None
    assert value is not None
    for op_type in chain:
        new = ir.node(op_type, [value])
        graph.insert_before(node, new)
        value = new.outputs[0]
    value.type, value.shape = old.type, old.shape
    ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    value.name = old.name


def _is_spatial_mean(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type != "ReduceMean" or node.inputs[0] is None or node.inputs[0].shape is None:
        return False
    axes = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    rank = len(node.inputs[0].shape)
    return axes is not None and rank > 2 and sorted(a % rank for a in axes.numpy().tolist()) == list(range(2, rank))


def _feeds_only_relu(pool: ir.Node) -> bool:
    uses = pool.outputs[0].consumers()
    return (
        len(pool.outputs) == 1
        and len(uses) == 1
        and uses[0].op_type == "Relu"
        and not pool.outputs[0].is_graph_output()
    )


def _is_whole_pool(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type != "AveragePool" or node.inputs[0] is None or node.inputs[0].shape is None:
        return False
    padded = any(node.attributes.get_ints("pads", ())) or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
    return not padded and tuple(node.inputs[0].shape[2:]) == tuple(node.attributes.get_ints("kernel_shape", ()))


RECURRENT_WEIGHTS = (".weight_ih", ".weight_hh", ".bias")
"""What their second to fourth inputs are called, after the node: both directions, and both biases, are one tensor."""
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", *RECURRENT})
OTHER_FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


def _check_standard(model: ir.Model) -> None:
    for node in model.graph.all_nodes():
        if refusal := _refusal(node):
            raise ModelError(f"node '{_shown(node)}' {refusal}")


def _refusal(node: ir.Node) -> str:
    if node.domain == "com.microsoft":
        advice = "export the model again, without ONNX Runtime's optimizer or quantizer"
        return f"is {node.domain}.{node.op_type}, which only ONNX Runtime has: {advice}"
    if node.domain:
        return f"is {node.domain}.{node.op_type}, which no runtime here has: export the model with ONNX's own operators"
    if "Sequence" in node.op_type or "Optional" in node.op_type:
        return f"({node.op_type}) works on sequences: export the model with tensors only"
    weights = [value for value in node.inputs[1:] if value is not None and ir.convenience.get_const_tensor(value)]
    found = next((value.dtype for value in weights if value.dtype in OTHER_FLOATS), None)
    if node.op_type in WEIGHTED and found is not None:
        return f"has weights in {found.name}: give the float32 model (in torch, model.float() before the export)"
    return ""


def _shown(node: ir.Node) -> str:
    return node.name or next((output.name for output in node.outputs if output.name), "?")


def _at_opset(model: ir.Model, wanted: int) -> ir.Model:
    if (given := opset_of(model)) == wanted:
        return model
    refused = f"the model's opset {given} cannot be turned into {wanted}"
    for node in model.graph.all_nodes():
        if given > wanted and not has_operator(wanted, node.op_type):
            raise ModelError(
                f"{refused}, which has no {node.op_type} (node '{_shown(node)}'): export it with that opset"
            )
    try:
        converted = onnx.version_converter.convert_version(ir.to_proto(model), wanted)
        onnx.checker.check_model(converted)  # an operator it knows nothing about, the converter leaves as it is
    except (RuntimeError, onnx.checker.ValidationError) as error:
        detail = str(error).splitlines()[0].rpartition("failed: ")[2].rstrip(".")
        at = next((f" (node '{_shown(node)}')" for node in model.graph.all_nodes() if node.op_type in detail), "")
        raise ModelError(f"{refused}: {detail}{at}: export it with that opset") from error
    graph: ir.Model = ir.from_proto(converted)
    return graph


UNWANTED = ("fuse_matmul_add_bias_into_gemm_batched",)
"""It spends a Reshape before and behind each MatMul on three dimensions, and five nodes more where one is free."""


def _simplified(model: ir.Model) -> ir.Model:
    """Fold what is constant. A weight that something was folded into gets its name back, by its node's name."""
    named = NameNodes()(model.clone()).model
    names = {layer.name: layer.weight for layer in weighted_layers(named)}
    try:
        proto, _ = onnxsim.simplify(ir.to_proto(named), skipped_optimizers=[*UNWANTED])
    except Exception as error:  # it runs ONNX Runtime, which raises many kinds
        raise ModelError(f"the model's constants cannot be folded: {str(error).strip().splitlines()[0]}") from error
    simplified: ir.Model = ir.from_proto(proto)
    for layer in weighted_layers(simplified):
        if layer.op in RECURRENT:
            continue  # below, with its other weights
        given = names.get(layer.name, layer.weight)
        _rename(simplified, layer.weight, f"{_of_path(layer.name)}.weight" if _is_number(given) else given)
    for node in simplified.graph:
        for value, suffix in zip(
            node.inputs[1:4] if node.op_type in RECURRENT else (), RECURRENT_WEIGHTS, strict=False
        ):
            if value is not None and _is_number(value.name):
                _rename(simplified, str(value.name), _of_path(str(node.name)) + suffix)
    return simplified


def _is_number(name: str | None) -> bool:
    return _NUMBER.fullmatch(name or "") is not None


def _rename(model: ir.Model, weight: str, name: str) -> None:
    """Call a weight `name`, unless that tells no more or another is called so."""
    if name not in model.graph.initializers and not _is_number(name.removesuffix(".weight")):
        model.graph.initializers[weight].name = name
