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
from edgeprune.graph.layers import as_layer, weighted_layers
from edgeprune.graph.load import opset as opset_of

OPSET = 20
"""The newest that TensorRT 10.3 (JetPack 6) reads; all that INT8 needs."""


def clean(model: ir.Model, *, opset: int = OPSET) -> ir.Model:
    """Return the model at `opset`, constants folded, without metadata or dead ends, as the passes below describe.

    Batch normalization goes into the convolution before it; weights keep their names. A clean graph stays as it is.
    Raises ModelError where the model uses what that opset cannot express.
    """
    passes = ir.passes.Sequential(
        common.InlinePass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveInitializersFromInputsPass(),
        common.IdentityEliminationPass(),
        MeanToGlobalPool(),
        WholePoolToGlobalPool(),
        ReluBeforePool(),
        OneTranspose(),
        ScaleBehindProduct(),
        NoGuardAgainstNothing(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.TopologicalSortPass(),
        NameNodes(),
        common.ShapeInferencePass(),
        common.ClearMetadataAndDocStringPass(),
    )
    cleaned = passes(_simplified(_at_opset(model, opset))).model
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


class NameNodes(ir.passes.InPlacePass):
    """Name nodes that only a counter named: a layer after its weight, any other after its kind; its values after it.

    node_Conv_371(x, layer1.0.conv1.weight)   becomes   layer1.0.conv1;   the second Relu   becomes   relu_2
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Give the names, in the order of computation."""
        counts = Counter(node.name for node in model.graph)
        counted = [node for node in model.graph if counts[node.name] > 1 or _COUNTER.fullmatch(node.name or "")]
        nodes = counts.keys() - {node.name for node in counted}
        values: set[str | None] = {*ir.convenience.create_value_mapping(model.graph)}
        values -= {output.name for node in counted for output in _inner_outputs(node)}
        for node in counted:
            node.name = _take(_own_name(node), nodes)
            for output in _inner_outputs(node):
                output.name = _take(node.name, values)
        return ir.passes.PassResult(model, modified=bool(counted))


_COUNTER = re.compile(r"(node_.*|\w+_\d+)?")
"""What exporters call a node they know nothing of: nothing, `node_relu_3`, `Conv_12`."""


def _own_name(node: ir.Node) -> str:
    if layer := as_layer(node):
        return layer.weight.removesuffix(".weight")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.op_type).lower()


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


def _at_opset(model: ir.Model, wanted: int) -> ir.Model:
    if (given := opset_of(model)) == wanted:
        return model
    try:
        converted = onnx.version_converter.convert_version(ir.to_proto(model), wanted)
        onnx.checker.check_model(converted)  # an operator it knows nothing about, the converter leaves as it is
    except (RuntimeError, onnx.checker.ValidationError) as error:
        detail = str(error).splitlines()[0].rpartition("failed: ")[2]
        raise ModelError(f"the model's opset {given} cannot be turned into {wanted}: {detail}") from error
    graph: ir.Model = ir.from_proto(converted)
    return graph


def _simplified(model: ir.Model) -> ir.Model:
    """Fold what is constant. A weight that something was folded into gets its name back, by its node's name."""
    named = NameNodes()(model.clone()).model
    names = {layer.name: layer.weight for layer in weighted_layers(named)}
    proto, _ = onnxsim.simplify(ir.to_proto(named))
    simplified: ir.Model = ir.from_proto(proto)
    initializers = simplified.graph.initializers
    for layer in weighted_layers(simplified):
        name = names.get(layer.name, layer.weight)
        if name not in initializers:
            initializers[layer.weight].name = name
    return simplified
